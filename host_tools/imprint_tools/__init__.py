"""The host side of imprint: flash, inject, verify, and a bench that needs no hardware."""
