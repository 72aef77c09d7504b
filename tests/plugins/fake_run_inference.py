"""A script that looks like bitnet.cpp's run_inference.py, well behaved or not, as `FAKE_MODE` says."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

MODE = os.environ["FAKE_MODE"]


def main() -> None:
    parser = argparse.ArgumentParser()
    for short, long in (("-m", "--model"), ("-p", "--prompt"), ("-n", "--n-predict"), ("-t", "--threads")):
        parser.add_argument(short, long)
    parser.add_argument("-c", "--ctx-size")
    parser.add_argument("-temp", "--temperature")
    parser.add_argument("-cnv", "--conversation", action="store_true")
    asked = parser.parse_args()
    print("log: loading", asked.model, file=sys.stderr)
    if MODE == "exits":
        sys.exit("error: unable to load model")
    if MODE == "hangs":
        subprocess.run([sys.executable, "-S", "-c", "import time; time.sleep(1000)"], check=True)
    if MODE == "garbage":
        sys.stdout.buffer.write(b"\xff\xfe\x00 GGGGGGGGGGGG\n")
        return
    if MODE == "endless":
        while True:
            sys.stdout.write("G" * 65536)
    if asked.conversation:
        print(f" system\n{asked.prompt}\n", end="")
        print("\n> ", end="", flush=True)
        message = sys.stdin.readline()
        print(f"{message}You said: {message.strip()}\n\n> ", end="", flush=True)
        time.sleep(1000)  # it waits for the next message
    words = " ".join(f"w{number}" for number in range(int(asked.n_predict)))
    print(f" {asked.prompt} {words} [end of text]\n", end="")


if __name__ == "__main__":
    main()
