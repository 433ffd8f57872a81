"""A remote worker that needs only a standard WebSocket client: pip install websocket-client."""

import json
import sys
import time

import websocket

URL = sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8000/ws?group=default"


def work(payload):
    """Do a task: `payload` has `model`, `messages` and `data`."""
    data = payload.get("data") or {}
    if data.get("fail"):
        raise ValueError(data["fail"])
    return {"echo": data or payload.get("messages")}


def on_message(connection, text):
    message = json.loads(text)
    if message["type"] == "connected":
        print("connected as", message["workerId"], flush=True)
        connection.send('{"type": "ready"}')
    elif message["type"] == "ping":
        connection.send('{"type": "pong"}')
    elif message["type"] == "task":
        began = time.monotonic()
        try:
            answer = {"type": "task_complete", "result": work(message["payload"])}
        except Exception as error:
            answer = {"type": "task_error", "error": str(error)}
        answer |= {"taskId": message["taskId"], "duration": round((time.monotonic() - began) * 1000)}
        connection.send(json.dumps(answer))


if __name__ == "__main__":
    websocket.WebSocketApp(URL, on_message=on_message).run_forever(reconnect=5)
