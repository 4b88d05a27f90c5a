route "tv_plays" {
  input = object({
    user_id     = string
    ts          = timestamp_ms
    country     = string
    device      = object({ type = string, os = optional(string) })
    position_ms = int
    duration_ms = int
    tags        = list(string)
  })
  filter = "country in ['BR', 'US'] && device.type == 'tv' && position_ms > 1000"
  project = {
    user_id = "user_id"
    ts      = "ts"
    os      = "device.os ?? 'unknown'"
    pct     = "position_ms / duration_ms * 100"
  }
  index = "plays-{ts:2006.01.02}"
  # OUT object({user_id = string, ts = timestamp_ms, os = string, pct = float})
}

route "any" {
  input   = any
  filter  = ["device.type == 'tv'", "n > local.limit"]
  project = { user = "user_id", title = "title_id", two = 2, half = 0.5, neg = -3, yes = true, "a-b" = "x", nested = { a = "b", c = { d = 1 } } }
  key     = "user"
  # OUT object({user = any, title = any, two = int, half = float, neg = int, yes = bool, a-b = any, nested = object({a = any, c = object({d = int})})})
}

route "untouched" {
  input = object({ a = string })
  key   = "a"
  headers = {
    "x-region.name" = "var.region"
    n               = "a + '!'"
    none            = "nil"
    five            = 5
  }
  # OUT object({a = string})
}

route "set_known" {
  input = object({ a = string, o = object({ x = int, y = string }), p = any })
  set   = { a = "o.x", "o.y" = "a", "o.z" = "1.5", b = "a", "p.q" = "'r'" }
  drop  = ["o.x"]
  key   = "string(o.z)"
  # OUT object({a = int, o = object({y = string, z = float}), p = object({q = string}), b = string})
}

route "set_any" {
  input = any
  set   = { a = "1", "o.y" = "b" }
  drop  = ["payload", "o.x", "event[\"@meta\"]"]
  key   = "o.w ?? other"
  id    = "a + 1"
  # OUT object({a = int, o = object({y = any})})
}

route "exploded" {
  input   = object({ id = string, items = list(object({ sku = string, n = int })) })
  filter  = "len(items) > 0"
  explode = "items"
  project = { id = "id", sku = "items.sku", n = "items.n * 2" }
  # OUT object({id = string, sku = string, n = int})
}

route "exploded_untouched" {
  input   = object({ id = string, order = object({ items = list(int) }) })
  explode = "order.items"
  key     = "order.items + 1"
  # OUT object({id = string, order = object({items = int})})
}

route "times" {
  input  = object({ ts = timestamp_ms, x = any })
  target = object({ day = date, at = timestamp_rfc3339, raw = timestamp_ms })
  project = {
    day = "truncate_time(ts, 'day')"
    at  = "ts"
    raw = "parse_time(x)"
  }
  # OUT object({day = date, at = timestamp_rfc3339, raw = timestamp_ms})
}

route "raw" {
  input   = any
  format  = "raw"
  filter  = "meta.key != nil"
  key     = "meta.headers['k']"
  headers = { a = "meta.topic" }
  # OUT any
}

route "heredoc" {
  input  = object({ n = int, s = string })
  filter = <<-EOT
    n > 1 &&
      s != 'x'
  EOT
  # OUT object({n = int, s = string})
}
