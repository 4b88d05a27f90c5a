# From a file to a file, with what does not fit put aside.

source "file" "orders" {
  path = "orders.ndjson"
  schema = object({
    id       = string
    ts       = timestamp_rfc3339
    customer = object({ email = string, country = string })
    total    = float
    currency = string
  })
}

sink "file" "eu" {
  path = "out/eu.ndjson"
}

locals {
  in_eu = "customer.country in ['DE', 'FR', 'IE', 'PT']"
}

route "eu_orders" {
  from   = source.orders
  filter = [local.in_eu, "total > 0"]
  project = {
    id       = "id"
    day      = "format_time(ts, '2006-01-02')"
    customer = "hash(lower(customer.email))"
    country  = "customer.country"
    total    = "total"
    vat      = "round(total * 19) / 100"
  }
  to = sink.eu
}
