"""What the driver uses of CuPy, without a device: streams refuse what CUDA would refuse."""

from types import SimpleNamespace

from .simulated import Device

NO_DEVICE, NOT_SAID = 100, 999  # cudaErrorNoDevice, and any other


class CUDARuntimeError(RuntimeError):
    """An error of CUDA's, with its number."""

    def __init__(self, message, status=NOT_SAID):
        super().__init__(message)
        self.status = status


class Stream:
    """A stream of the current device.

    Attributes
    ----------
    capture : Capture or None
        What it takes part in.
    waits : list of Stream
        For what it was told to wait.
    """

    current = []  # of blocks under way

    def __init__(self, non_blocking=False):
        self.device, self.capture, self.waits = Device.current[-1], None, []
        self.ptr = id(self)

    def __enter__(self):
        assert self.device == Device.current[-1], "a stream of another device"
        Stream.current.append(self)

    def __exit__(self, *error):
        Stream.current.pop()

    def begin_capture(self, mode):
        if self.capture is not None:
            raise CUDARuntimeError("cudaErrorIllegalState")
        self.capture = Capture(self)

    def end_capture(self):
        if self.capture is None:
            raise CUDARuntimeError("cudaErrorIllegalState")
        return self.capture.end()

    def wait_event(self, event):
        self.waits.append(event.stream)
        if self.capture is not event.capture and self.capture is not None:
            raise CUDARuntimeError("cudaErrorStreamCaptureIsolation")
        if event.capture is not None:
            event.capture.goes_on(event.stream, self)

    def synchronize(self):
        if self.capture is not None:
            raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported")


class Capture:
    """A graph under way: streams that were forked have to be joined before it ends."""

    def __init__(self, origin):
        self.origin, self.streams, self.unjoined = origin, {origin}, set()

    def goes_on(self, before, after):
        """A stream of it was waited for by a stream, which is a part of it from now on."""
        if after is self.origin:
            self.unjoined.discard(before)
        else:
            self.streams.add(after)
            self.unjoined.add(after)
            after.capture = self

    def end(self):
        for stream in self.streams:
            stream.capture = None
        if self.unjoined:
            raise CUDARuntimeError("cudaErrorStreamCaptureUnjoined")
        return SimpleNamespace(launch=lambda stream: None, upload=lambda stream: None)


class Event:
    """A point of a stream."""

    def __init__(self, disable_timing=False):
        self.stream = self.capture = None

    def record(self, stream):
        self.stream, self.capture = stream, stream.capture

    def synchronize(self):
        assert self.capture is None


class ndarray:
    """An array of the current device, of the memory of the current stream."""

    def __init__(self, shape, dtype):
        self.shape, self.dtype = shape, dtype
        self.device, self.stream = Device.current[-1], get_current_stream()


NULL_STREAM = Stream()


def get_current_stream():
    return Stream.current[-1] if Stream.current else NULL_STREAM


class Cupy:
    """The module.

    Parameters
    ----------
    n_devices : int or None
        None: CUDA does not say.
    status : int, default=NO_DEVICE
        What it says then.
    """

    ndarray, empty = ndarray, ndarray

    def __init__(self, n_devices, status=NO_DEVICE):
        self.n_devices, self.status = n_devices, status
        self.pinned = []  # devices of allocations
        runtime = SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError, getDeviceCount=self.count_devices,
            streamCaptureModeThreadLocal=1,
        )  # fmt: skip
        self.cuda = SimpleNamespace(
            runtime=runtime, Device=Device, Stream=Stream, Event=Event,
            get_current_stream=get_current_stream, get_elapsed_time=lambda begin, end: 1.0,
            alloc=lambda n_bytes: SimpleNamespace(ptr=0), alloc_pinned_memory=self.alloc_pinned,
        )  # fmt: skip

    def count_devices(self):
        if self.n_devices is None:
            raise CUDARuntimeError("cudaErrorNoDevice", self.status)
        return self.n_devices

    def alloc_pinned(self, n_bytes):
        self.pinned.append(Device.current[-1])
        return bytearray(n_bytes)

    def ascontiguousarray(self, array):
        return array
