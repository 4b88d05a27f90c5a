variable "port" {
  type = number
  default = "many" # ERROR: The variable "port" is number
}

variable "needed" { # ERROR: The variable "needed" has no default
  type = string
}

variable "region" {
  type    = string
  default = "eu" # ERROR: Only US regions.
  validation {
    condition     = startswith(var.region, "us-")
    error_message = "Only US regions."
  }
  validation { # ERROR: exactly two options
    condition = true
  }
}

variable "colour" {
  tipe = string # ERROR: Did you mean "type"?
  default = "red"
}

variable "strict" {
  type     = string
  default  = null # ERROR: nullable = false
  nullable = false
}

locals {
  a = local.b # ERROR: local.a needs itself: local.a → local.b → local.a
  b = local.a
  c = var.prot # ERROR: Did you mean "port"?
  d = nosuch(1) # ERROR: There is no function "nosuch"
  e = each.key # ERROR: there is none here
}
