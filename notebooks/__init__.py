"""The notebook as data: document, outputs, edits, codec, rendering. Pure: nothing here does I/O."""
