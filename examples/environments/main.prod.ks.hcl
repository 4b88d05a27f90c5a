cluster "main" {
  brokers = ["kafka-1.internal:9093", "kafka-2.internal:9093"]

  tls {
    ca = file("ca.pem")
  }

  sasl {
    mechanism = "scram_sha_512"
    username  = env("KAFKA_USER")
    password  = env("KAFKA_PASSWORD")
  }
}

stream "clicks" {
  partitions = 48
}
