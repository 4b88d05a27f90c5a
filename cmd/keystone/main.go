// Command keystone moves and processes event streams.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"keystone/cmd/internal/api"
	"keystone/cmd/internal/cli"
	"keystone/cmd/internal/wire"
)

func main() {
	os.Exit(int(run()))
}

func run() cli.Code {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal asks to finish what is in flight; the second one, no
	// longer caught, ends the process.
	context.AfterFunc(ctx, stop)
	app := cli.New(cli.Deps{
		Catalog:     wire.Catalog,
		Codes:       wire.Codes,
		Goals:       api.Codec{Encode: wire.EncodeGoal, Decode: wire.DecodeGoal},
		Run:         wire.Run,
		Serve:       wire.Serve,
		OpenOffline: wire.OpenOffline,
	})
	return app.Main(ctx, os.Args[1:])
}
