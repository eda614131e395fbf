"""Talk to a command in a container line by line: live streams both ways, and its exit code. usage: conversation.py [IMAGE]"""
from __future__ import annotations

import sys

from mydocker import Engine

image = sys.argv[1] if len(sys.argv) > 1 else "host"
questions = iter([b"6*7\n", b"2+2\n"])

with Engine() as engine, engine.containers.run(image, ["sleep", "1000"], detach=True) as container:
    calculator = ["sh", "-c", "echo ready; while read -r line; do echo $(($line)); done; exit 9"]
    with container.open_exec(calculator, interactive=True) as session:
        for kind, payload in session.events():
            if kind == "exited":
                break
            print(kind, payload)
            question = next(questions, None)
            if question is None:
                session.close_stdin()
            else:
                session.write(question)
        print("exit code", session.finish())
