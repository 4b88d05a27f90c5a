cluster "main" {
  brokers = ["127.0.0.1:9092"]
}

stream "calls" {
  schema = object({ device = string, ts = timestamp_ms, status = string })
}

stream "alerts" {}

job "alerts" {
  on_error = "drop"
  read "calls" {
    from       = stream.calls
    event_time = "ts"
    watermark  = "2s"
    max_ahead  = "0s"
  }
  window "rates" {
    input = read.calls
    key   = { device = "device" }
    hopping {
      size  = "1m"
      every = "30s"
    }
    aggregate = {
      calls  = "count()"
      errors = "count(where(status == 'error'))"
      rate   = "count(where(status == 'error')) / count()"
    }
  }
  filter "bad" {
    input = window.rates
    where = ["calls >= 3", "rate > 0.5"]
  }
  project "alert" {
    input   = filter.bad
    project = { device = "device", since = "window_start", rate = "rate" }
  }
  write "alerts" {
    input = project.alert
    to    = stream.alerts
    key   = "device"
  }
}
