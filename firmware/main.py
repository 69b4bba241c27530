# Starts the application, and can never lock anybody out: a crash loop backs off, longer at each
# turn, and every wait ends at once with Ctrl-C, which leaves the REPL.
import sys
import time

import machine


def start():
    # RTC memory outlives every reset but power-on, and writing it wears nothing. The byte counts
    # starts that did not get to report; imprint.port.healthy() clears it.
    rtc = machine.RTC()
    memory = rtc.memory()
    tries = memory[2] if len(memory) == 3 and memory[:2] == b"im" else 0
    rtc.memory(b"im" + bytes([min(tries + 1, 255)]))
    if tries > 2:
        wait_s = min(1 << tries, 600)
        print("imprint: start %d without coming online; waiting %d s" % (tries + 1, wait_s))
        time.sleep(wait_s)
    from imprint import app

    app.run()


try:
    start()
except KeyboardInterrupt:
    print("imprint: stopped; machine.reset() starts it again")
except ImportError as error:
    sys.print_exception(error)
    print("imprint: a module is missing; if it is one of imprint's: imprint flash")
except Exception as error:
    sys.print_exception(error)
    time.sleep(2)
    machine.reset()
