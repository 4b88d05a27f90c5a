# From a file into Elasticsearch.

variable "elasticsearch" {
  type    = string
  default = "http://127.0.0.1:9200"
}

variable "prefix" {
  type    = string
  default = "shop"
}

source "file" "changes" {
  path = "products.ndjson"
  schema = object({
    sku     = string
    op      = string
    changed = int
    name    = optional(string)
    price   = optional(float)
    tags    = optional(list(string))
  })
}

# Each change as it came: derived ids, so that running it again adds nothing.
sink "elasticsearch" "history" {
  urls  = [var.elasticsearch]
  index = "${var.prefix}-history"
}

# Each product as it is: the newest change of its id wins, in whatever order they come.
sink "elasticsearch" "products" {
  urls    = [var.elasticsearch]
  index   = "${var.prefix}-products"
  id      = "sku"
  version = "changed"
  delete  = "op == 'delete'"
}

route "history" {
  from = source.changes
  to   = sink.history
}

route "products" {
  from = source.changes
  to   = sink.products
}
