"""Drawing, apart from computing: functions of saved data to matplotlib figures; no torch, no models."""
