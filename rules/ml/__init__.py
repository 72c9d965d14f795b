"""What learns how likely a finding is to be still there when an order arrives (pure)."""
