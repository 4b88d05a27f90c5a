build:
	go build -o bin/keystone ./cmd/keystone
