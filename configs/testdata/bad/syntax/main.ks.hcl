route "r" {
  from = # ERROR: Invalid expression
}
