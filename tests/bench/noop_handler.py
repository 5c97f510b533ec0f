"""A handler that does nothing, for the benchmark."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts", "handlers",
                                "python"))
import bot_handler  # noqa: E402

bot_handler.run(lambda message: None)
