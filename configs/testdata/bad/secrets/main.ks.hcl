variable "token" {
  type      = string
  sensitive = true
}

variable "plain" {
  default = "x"
}

locals {
  header = "ApiKey ${env("K")}"
}

sink "elasticsearch" "a" {
  password = "hunter2" # WARNING: Secret written in the file
}

sink "elasticsearch" "b" {
  password = trimspace(env("P")) # ERROR: Computed secret
}

sink "elasticsearch" "c" {
  urls = [var.token] # ERROR: cannot hold a sensitive value
  path = "x-${var.token}" # ERROR: cannot hold a sensitive value
}

sink "elasticsearch" "d" {
  password = upper(var.token) # ERROR: Computed secret
  rotate {
    token = 5 # WARNING: Secret written in the file
  }
}

sink "elasticsearch" "e" {
  password = var.plain # WARNING: Secret written in the file
  id       = "var.token" # ERROR: The expression uses var.token, which is sensitive
  mode     = env("MODE_IS_NOT_SET") # ERROR: the environment variable MODE_IS_NOT_SET is not set
}

sink "elasticsearch" "f" {
  for_each = var.token # ERROR: it cannot come from a sensitive value
}

sink "elasticsearch" "g" {
  password = ["x"] # ERROR: A secret is text
}
