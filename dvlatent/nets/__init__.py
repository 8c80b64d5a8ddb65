"""Networks and drawn generators: everything that turns numbers into pictures or pictures into numbers."""
