cluster "edge" {
  client_id = "edge"
}

locals {
  is_tv = "device.type in ['tv', 'stick']"
}

route "views" {
  filter = "country == 'US'"
  batch {
    records = 7
  }
}

route "tv" {
  batch {
    linger = "2s"
  }
}
