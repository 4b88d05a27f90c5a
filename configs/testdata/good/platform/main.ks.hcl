keystone {
  namespace        = "ads"
  required_version = ">= 0.1, < 2.0"
  listen           = "127.0.0.1:7070"
}

variable "regions" {
  type = map(object({ country = string, partitions = optional(number, 4) }))
  default = {
    "eu-west-1" = { country = "DE" }
    "us-east-1" = { country = "US", partitions = 12 }
  }
}

variable "token" {
  type      = string
  sensitive = true
}

variable "creds" {
  type      = object({ user = string, password = string })
  sensitive = true
  default   = { user = "u", password = "p" }
}

variable "min_position" {
  type    = number
  default = 1000
  validation {
    condition     = var.min_position >= 0
    error_message = "Must not be negative, is ${var.min_position}."
  }
}

variable "name" {
  type = string
}

locals {
  is_tv    = "device.type == 'tv'"
  playback = object({ user_id = string, ts = timestamp_ms, country = string, device = object({ type = string }), position_ms = int })
  columns  = { user = "user_id", at = "ts", region = "each.key", version = 2 }
  header   = "ApiKey ${var.token}"
  targets  = upper(join("-", ["a", "b"]))
}

cluster "main" {
  brokers = ["10.0.0.1:9092", "10.0.0.2:9092"]
  tls {
    ca = file("ca.pem")
  }
  sasl {
    mechanism = "scram_sha_512"
    username  = var.creds.user
    password  = var.creds.password
  }
}

cluster "edge" {
  brokers = ["10.1.0.1:9092"]
}

defaults {
  route {
    on_error = "drop"
    retry {
      max = "1m"
    }
  }
  stream {
    retention = "7d"
  }
  sink "elasticsearch" {
    max  = "2MiB"
    mode = "create"
  }
}

stream "plays" {
  for_each   = var.regions
  cluster    = cluster.main
  partitions = each.value.partitions
  schema     = local.playback
  key        = "user_id"
  config     = { "cleanup.policy" = "delete", "min.insync.replicas" = tostring(2) }
}

stream "old" {
  cluster = cluster.edge
  managed = false
  topic   = "legacy.${lower(local.targets)}"
  schema  = stream.plays["eu-west-1"].schema
}

stream "views" {
  cluster   = cluster.main
  retention = "forever"
  schema = object({
    user   = string
    at     = timestamp_ms
    region = string
    extra  = optional(map(string))
  })
}

stream "shared" {
  cluster  = cluster.main
  external = "billing.accounts"
}

sink "elasticsearch" "search" {
  urls     = ["http://${var.name}:9200"]
  path     = "plays-{at:2006.01.02}"
  password = local.header
  labels   = { team = "ads" }
  rotate {
    size  = 1048576
    token = "Basic ${env("BASIC")}!"
  }
}

sink "file" "lines" {
  for_each = toset(["a", "b"])
  path     = "out/${each.key}.ndjson"
  quiet    = each.key == "a"
}

route "tv" {
  for_each = var.regions
  from     = stream.plays[each.key]
  filter   = [local.is_tv, "position_ms > var.min_position", "country == each.value.country"]
  project  = local.columns
  to       = sink.search
  key      = "user"
  headers  = { region = "region", "x-kind" = "'tv'" }
  start    = "2026-01-31T00:00:00Z"

  batch {
    records = 500
    linger  = "1.5s"
  }
  retry {
    initial = "200ms"
  }
}

route "views" {
  from = stream.plays["us-east-1"]
  project = {
    user   = "user_id"
    at     = "ts"
    region = "country"
    extra  = { a = "country" }
  }
  to = stream.views
}

route "touch" {
  from   = stream.old
  set    = { "device.type" = "lower(device.type)", seen = true, score = 1.5 }
  drop   = ["position_ms"]
  to     = sink.lines["b"]
  filter = <<-EOT
    country == "DE"
      && position_ms > 5
  EOT
}

moved {
  from = route.television
  to   = route.tv
}

removed {
  from    = stream.gone["x"]
  destroy = true
}
