sink "stdout" "out" {
  quiet = true
  rotate {}
}
