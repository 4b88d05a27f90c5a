# One order with several items becomes one event per item, keyed and labelled
# for a topic.

source "file" "orders" {
  path = "orders.ndjson.gz"
  schema = object({
    order = string
    user  = string
    items = list(object({ sku = string, price = float, count = int }))
  })
}

sink "file" "items" {
  path = "out/items.ndjson"
}

route "items" {
  from    = source.orders
  filter  = "any(items, .count > 0)"
  explode = "items"
  project = {
    order  = "order"
    user   = "mask(user, 2)"
    sku    = "items.sku"
    amount = "items.price * items.count"
  }
  to = sink.items
}
