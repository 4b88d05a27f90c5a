source "file" "orders" {
  path = "orders.ndjson"
}

sink "file" "totals" {
  path = "out/totals.ndjson"
}

route "totals" {
  from = source.orders
  to   = sink.totals
  project = {
    id    = "id"
    total = "price * amount"
  }
}
