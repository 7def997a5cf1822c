"""一体化过户: water, power, gas, telecom and cable accounts move with the property, as its parties chose."""
