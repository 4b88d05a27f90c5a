sink "file" "a" {
  path = "out-{ts" # ERROR: {
}

sink "file" "b" {
  id = "1 +" # ERROR: Not an expression
}

stream "s" {
  key    = "nn" # ERROR: nn
  schema = object({ n = int })
}
