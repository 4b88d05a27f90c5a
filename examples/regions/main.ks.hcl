# One route per region, from one block: the regions are a variable.

variable "regions" {
  type        = map(list(string))
  description = "The countries of each region."
  default = {
    americas = ["BR", "US", "MX"]
    europe   = ["DE", "FR", "GB"]
  }
}

source "file" "plays" {
  path = "plays.ndjson"
}

sink "file" "by_region" {
  for_each = var.regions
  path     = "out/${each.key}.ndjson"
}

route "region" {
  for_each = var.regions
  from     = source.plays
  filter   = "country in each.value"
  set      = { region = "each.key" }
  drop     = ["payload"]
  to       = sink.by_region[each.key]
}
