keystone {
  namespace        = "Ads" # ERROR: cannot name a namespace
  listen           = "7070" # ERROR: is not HOST:PORT
  required_version = ">= 99" # ERROR: This is Keystone 0.3.0
}

cluster "a" {
  brokers = ["localhost"] # ERROR: is not HOST:PORT
  tls {   # ERROR: cert and key go together
    cert = file("x.pem")
  }
}

cluster "b" {
  brokers = ["x:1"]
  sasl {  # ERROR: "sasl.password" is required # ERROR: "sasl.username" is required
    mechanism = "scram" # ERROR: takes one of
  }
}

stream "s" {} # ERROR: There are several clusters

cluster "c" {
  brokers = [] # ERROR: at least one broker
}
