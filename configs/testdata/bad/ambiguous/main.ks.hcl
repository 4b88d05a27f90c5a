source "generator" "s" {}
sink "file" "a" {
  rotate {
    size = 1
  }
}
sink "file" "a_rotate" {}
