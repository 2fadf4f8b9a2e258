// Streams, events and capturing.

#include <algorithm>

#include "enter.h"

using namespace fake_driver;

namespace {

// For calls that look at an event's progress: not while it, or this thread, captures. f(context, event)
template <class F> CUresult with_event(const char* name, CUevent handle, F f) {
    return in_context(name, [&](const std::shared_ptr<Context>& context) {
        const std::shared_ptr<Event> event = world().events.find(handle);
        if (event == nullptr) return CUDA_ERROR_INVALID_HANDLE;
        if (event->capture != nullptr) {
            event->capture->valid = false;
            return CUDA_ERROR_CAPTURED_EVENT;
        }
        const CUresult error = world().captures.forbid_unsafe();
        return error ? error : f(context, event);
    });
}

// A capturing stream waits: for a node of the same capture.
CUresult wait_in_capture(Stream& stream, const Event& event) {
    Capture& capture = *stream.capture;
    if (!capture.valid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (event.capture == nullptr) {
        if (event.moment == nullptr) return CUDA_SUCCESS;  // never recorded
        capture.valid = false;
        return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
    }
    if (event.capture.get() != &capture) {
        capture.valid = event.capture->valid = false;
        return CUDA_ERROR_STREAM_CAPTURE_MERGE;
    }
    for (const size_t node : event.tail)
        if (std::find(stream.tail.begin(), stream.tail.end(), node) == stream.tail.end()) stream.tail.push_back(node);
    return CUDA_SUCCESS;
}

}  // namespace

CUresult cuStreamCreate(CUstream* handle, unsigned flags) {
    return in_context(__func__, [&](const std::shared_ptr<Context>& context) {
        if (handle == nullptr || flags > STREAM_NON_BLOCKING) return CUDA_ERROR_INVALID_VALUE;
        const auto stream = std::make_shared<Stream>();
        stream->context = context;
        stream->non_blocking = flags == STREAM_NON_BLOCKING;
        *handle = world().streams.add(stream);
        return CUDA_SUCCESS;
    });
}

// What is queued still runs.
CUresult cuStreamDestroy_v2(CUstream handle) {
    return releasing(__func__, [&] {
        const std::shared_ptr<Stream> stream = world().streams.find(handle);
        if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
        if (stream->capture != nullptr) {
            stream->capture->valid = false;
            if (stream->capture->origin.lock() == stream)
                world().captures.end(std::shared_ptr<Capture>(stream->capture));
        }
        world().streams.remove(handle);
        return CUDA_SUCCESS;
    });
}

CUresult cuStreamSynchronize(CUstream handle) {
    return in_context(__func__, [&](const std::shared_ptr<Context>& context) {
        const std::shared_ptr<Stream> stream = stream_of(context, handle);
        if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
        if (stream->capture != nullptr) {
            stream->capture->valid = false;
            return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        }
        if (const CUresult error = world().captures.forbid_unsafe()) return error;
        world().scheduler.finish(stream);
        return context->state();
    });
}

CUresult cuStreamWaitEvent(CUstream stream_handle, CUevent event_handle, unsigned flags) {
    return in_context(__func__, [&](const std::shared_ptr<Context>& context) {
        const std::shared_ptr<Stream> stream = stream_of(context, stream_handle);
        const std::shared_ptr<Event> event = world().events.find(event_handle);
        if (stream == nullptr || event == nullptr) return CUDA_ERROR_INVALID_HANDLE;
        if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
        if (stream->capture != nullptr) return wait_in_capture(*stream, *event);
        if (event->capture != nullptr) {  // joins the capture
            const std::shared_ptr<Stream> origin = event->capture->origin.lock();
            const bool over = origin == nullptr || origin->capture != event->capture;
            if (over) return CUDA_ERROR_CAPTURED_EVENT;
            stream->capture = event->capture;
            stream->capture->join(stream);
            stream->tail = event->tail;
            return CUDA_SUCCESS;
        }
        if (event->moment != nullptr) {
            Task task;
            task.wait = event->moment;
            world().scheduler.enqueue(*stream, std::move(task));
        }
        return CUDA_SUCCESS;
    });
}

CUresult cuStreamBeginCapture_v2(CUstream handle, int mode) {
    return in_context(__func__, [&](const std::shared_ptr<Context>& context) {
        const std::shared_ptr<Stream> stream = stream_of(context, handle);
        if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
        if (mode < CAPTURE_GLOBAL || mode > CAPTURE_RELAXED) return CUDA_ERROR_INVALID_VALUE;
        if (stream == context->default_stream) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        if (stream->capture != nullptr) return CUDA_ERROR_ILLEGAL_STATE;
        world().captures.begin(stream, static_cast<CaptureMode>(mode));
        return CUDA_SUCCESS;
    });
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph* graph) {
    // A capture that fails at its end has ended: the graph is lost.
    CUgraph made = nullptr;
    const CUresult error = releasing(__func__, [&] {
        std::shared_ptr<Context> context;
        find_current(context);
        const std::shared_ptr<Stream> stream = stream_of(context, handle);
        if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
        if (graph == nullptr) return CUDA_ERROR_INVALID_VALUE;
        const std::shared_ptr<Capture> capture = stream->capture;
        *graph = nullptr;
        if (capture == nullptr) return CUDA_ERROR_ILLEGAL_STATE;
        if (capture->origin.lock() != stream) {
            capture->valid = false;
            return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
        }
        if (capture->mode != CAPTURE_RELAXED && capture->thread != std::this_thread::get_id())
            return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
        const bool joined = capture->joined();
        world().captures.end(capture);
        if (!capture->valid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
        if (!joined) return CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
        made = world().graphs.add(capture->graph);
        return CUDA_SUCCESS;
    });
    if (error == CUDA_SUCCESS) {
        *graph = made;
    } else if (made != nullptr) {
        const std::lock_guard<Turnstile> turn(world().turnstile);
        world().graphs.remove(made);
    }
    return error;
}

CUresult cuEventCreate(CUevent* handle, unsigned flags) {
    return in_context(__func__, [&](const std::shared_ptr<Context>& context) {
        if (handle == nullptr || flags > 7) return CUDA_ERROR_INVALID_VALUE;
        const auto event = std::make_shared<Event>();
        event->context = context;
        event->timed = (flags & EVENT_DISABLE_TIMING) == 0;
        *handle = world().events.add(event);
        return CUDA_SUCCESS;
    });
}

CUresult cuEventDestroy_v2(CUevent event) {
    return releasing(__func__, [&] { return world().events.remove(event) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE; });
}

CUresult cuEventRecord(CUevent event_handle, CUstream stream_handle) {
    return in_context(__func__, [&](const std::shared_ptr<Context>& context) {
        const std::shared_ptr<Stream> stream = stream_of(context, stream_handle);
        const std::shared_ptr<Event> event = world().events.find(event_handle);
        if (stream == nullptr || event == nullptr || event->context != context) return CUDA_ERROR_INVALID_HANDLE;
        if (stream->capture != nullptr) {
            if (!stream->capture->valid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
            event->capture = stream->capture;
            event->tail = stream->tail;
            event->moment = nullptr;
            return CUDA_SUCCESS;
        }
        event->capture = nullptr;
        event->moment = std::make_shared<Moment>();
        event->moment->stream = stream;
        Task task;
        task.reach = event->moment;
        world().scheduler.enqueue(*stream, std::move(task));
        return CUDA_SUCCESS;
    });
}

CUresult cuEventQuery(CUevent handle) {
    return with_event(__func__, handle, [&](const auto& context, const auto& event) {
        const std::shared_ptr<Moment> moment = event->moment;
        if (moment != nullptr && !moment->reached) world().scheduler.nudge(moment->stream.lock());
        if (const CUresult error = context->state()) return error;
        return moment == nullptr || moment->reached ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
    });
}

CUresult cuEventSynchronize(CUevent handle) {
    return with_event(__func__, handle, [&](const auto& context, const auto& event) {
        if (const std::shared_ptr<Moment> moment = event->moment) world().scheduler.finish(moment);
        return context->state();
    });
}

CUresult cuEventElapsedTime(float* milliseconds, CUevent start_handle, CUevent end_handle) {
    return in_context(__func__, [&](const std::shared_ptr<Context>&) {
        const std::shared_ptr<Event> start = world().events.find(start_handle);
        const std::shared_ptr<Event> end = world().events.find(end_handle);
        if (milliseconds == nullptr) return CUDA_ERROR_INVALID_VALUE;
        if (start == nullptr || end == nullptr || !start->timed || !end->timed) return CUDA_ERROR_INVALID_HANDLE;
        if (start->moment == nullptr || end->moment == nullptr) return CUDA_ERROR_INVALID_HANDLE;
        if (!start->moment->reached || !end->moment->reached) return CUDA_ERROR_NOT_READY;
        *milliseconds = static_cast<float>(end->moment->milliseconds - start->moment->milliseconds);
        return CUDA_SUCCESS;
    });
}
