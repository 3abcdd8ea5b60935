"""Later executions of an ipykernel as its own client has them, in milliseconds, one per line."""

import sys
import time

from jupyter_client.manager import start_new_kernel


def once(client, code):
    begun = time.perf_counter()
    request = client.execute(code)
    printed = ''
    while True:
        message = client.get_iopub_msg(timeout=10)
        if message['parent_header'].get('msg_id') != request:
            continue
        if message['msg_type'] == 'stream':
            printed += message['content']['text']
        elif message['msg_type'] == 'status' and message['content']['execution_state'] == 'idle':
            break
    client.get_shell_msg(timeout=10)
    took = (time.perf_counter() - begun) * 1000
    if printed.strip() != '2':
        raise RuntimeError('answered %r' % printed)
    return took


def main(rounds):
    manager, client = start_new_kernel()
    try:
        for _ in range(20):
            once(client, 'print(1 + 1)')
        for _ in range(rounds):
            print(once(client, 'print(1 + 1)'))
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


main(int(sys.argv[1]))
