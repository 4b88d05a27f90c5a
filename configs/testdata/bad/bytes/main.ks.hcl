locals {
  x = "ÿ" # ERROR: Not UTF-8
}
