source "generator" "plays" {
  rate = 1000
}

sink "stdout" "screen" {}

route "hello" {
  from    = source.plays
  filter  = "device.type == 'tv'"
  project = { user = "user_id", title = "title_id" }
  to      = sink.screen
}
