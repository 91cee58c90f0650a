/* Streams, events, copies and graphs of the emulated CUDA runtime.
 *
 * A stream is a queue of work. One that is slow does nothing until something waits for it, and then no more than it
 * must; the others do their work as soon as events allow. So what is not ordered by events shows as a wrong result.
 * A stream that captures collects the same work in a graph instead. Stricter than the runtime: what would be captured
 * with pageable memory, or waits for work outside of the graph, is an error.
 */
#include "streams.h"
#include "fibers.h"

#include <cstdlib>
#include <deque>
#include <map>
#include <time.h>

namespace
{

struct Event;

struct Work {
    std::function<void()> run;
    Event *event; /* to wait for until it has passed `version` times, or NULL */
    uint64_t version;
};

struct Node {
    std::function<void()> run;
    Event *record; /* or this event is recorded */
};

struct Graph {
    std::vector<Node> nodes;
};

struct Stream {
    std::deque<Work> queue;
    bool slow, busy, capturing;
    cudaError_t capture_error;
    Graph graph; /* as far as it is captured */
};

struct Event {
    Stream *stream; /* that recorded it last */
    uint64_t recorded, passed;
    bool captured; /* recorded as part of a graph without being a node of it: of no use outside */
    timespec time;
};

unsigned slow_mask, created;
std::vector<Stream *> streams;
std::map<const char *, size_t> pinned;
t2t_emulation_counts counts;
/* past the sanitizers' interceptors: these copies are a device's */
void *(*volatile plain_copy)(void *, const void *, size_t) = memcpy;
void *(*volatile plain_set)(void *, int, size_t) = memset;

Stream *of(cudaStream_t stream)
{
    if (!stream) abort(); /* the default stream, which nothing here should use */
    return reinterpret_cast<Stream *>(stream);
}

Event *of(cudaEvent_t event)
{
    return reinterpret_cast<Event *>(event);
}

/* Does what may be done. `until`: up to its passing `version` times, even if others must be made to work first. */
void advance(Stream *stream, bool forced, const Event *until, uint64_t version)
{
    if (stream->busy) return;
    while (!stream->queue.empty() && !(until && until->passed >= version)) {
        const Work work = stream->queue.front();
        if (work.event && work.event->passed < work.version) {
            if (!forced) return;
            advance(work.event->stream, true, work.event, work.version);
            if (work.event->passed < work.version) abort(); /* streams that wait for each other */
            continue; /* what came of that may have been this stream's turn already */
        }
        stream->queue.pop_front();
        stream->busy = true;
        if (work.run) work.run();
        stream->busy = false;
    }
}

void advance_fast()
{
    for (Stream *stream : streams)
        if (!stream->slow) advance(stream, false, nullptr, 0);
}

void drain(Stream *stream)
{
    advance(stream, true, nullptr, 0);
}

void drain_all()
{
    for (Stream *stream : streams) drain(stream);
}

void put(Stream *stream, const Work &work)
{
    stream->queue.push_back(work);
    advance_fast();
}

void record(Stream *stream, Event *event)
{
    event->stream = stream;
    event->captured = false;
    const uint64_t version = ++event->recorded;
    put(stream, {[event, version] {
                     clock_gettime(CLOCK_MONOTONIC, &event->time);
                     event->passed = version;
                     advance_fast(); /* whoever waited for it */
                 },
                    nullptr, 0});
}

cudaError_t refuse_capture(Stream *stream)
{
    return stream->capture_error = cudaErrorStreamCaptureUnsupported;
}

/* What waits for everything, as allocation does, cannot be part of a graph. */
cudaError_t check_no_capture()
{
    cudaError_t error = cudaSuccess;
    for (Stream *stream : streams)
        if (stream->capturing) error = refuse_capture(stream);
    return error;
}

bool is_pinned(const void *memory, size_t bytes)
{
    const char *first = static_cast<const char *>(memory);
    auto after = pinned.upper_bound(first);
    if (after == pinned.begin()) return false;
    --after;
    return first + bytes <= after->first + after->second;
}

cudaError_t allocate(void **memory, size_t bytes)
{
    counts.allocations++;
    const cudaError_t error = check_no_capture();
    if (error) return error;
    if (posix_memalign(memory, 256, bytes ? bytes : 1)) return cudaErrorMemoryAllocation;
    emulation::poison(*memory, bytes);
    return cudaSuccess;
}

} /* namespace */

void emulation::queue(cudaStream_t stream, const std::function<void()> &run)
{
    if (of(stream)->capturing)
        of(stream)->graph.nodes.push_back({run, nullptr});
    else
        put(of(stream), {run, nullptr, 0});
}

void emulation::count_launch()
{
    counts.launches++;
}

extern "C" {

void t2t_emulation_slow_streams(unsigned mask)
{
    slow_mask = mask;
    created = 0;
}

struct t2t_emulation_counts t2t_emulation_count(void)
{
    const t2t_emulation_counts so_far = counts;
    counts = {};
    return so_far;
}

/* ---- memory ---- */

cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    return allocate(memory, bytes);
}
cudaError_t cudaFree(void *memory)
{
    drain_all();
    free(memory);
    return check_no_capture();
}
cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned)
{
    const cudaError_t error = allocate(memory, bytes);
    if (!error) pinned[static_cast<char *>(*memory)] = bytes;
    return error;
}
cudaError_t cudaFreeHost(void *memory)
{
    pinned.erase(static_cast<char *>(memory));
    return cudaFree(memory);
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
    const auto copy = [=] {
        if (bytes) plain_copy(to, from, bytes);
    };
    const auto copy_beside = [=] {
        copy();
        for (const Stream *other : streams)
            if (kind == cudaMemcpyHostToDevice && other != of(stream) && !other->queue.empty()) {
                counts.overlapped++;
                break;
            }
    };
    if ((kind == cudaMemcpyHostToDevice && !is_pinned(from, bytes)) ||
        (kind == cudaMemcpyDeviceToHost && !is_pinned(to, bytes))) {
        if (of(stream)->capturing) return refuse_capture(of(stream));
        counts.pageable_copies++;
        drain(of(stream));
        copy();
    } else {
        counts.copies++;
        emulation::queue(stream, copy_beside);
    }
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream)
{
    emulation::queue(stream, [=] {
        if (bytes) plain_set(memory, value, bytes);
    });
    return cudaSuccess;
}

/* ---- streams and events ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
    Stream *made = new Stream();
    made->slow = slow_mask >> created++ % 2 & 1;
    streams.push_back(made);
    *stream = reinterpret_cast<cudaStream_t>(made);
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    drain(of(stream));
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == of(stream)) streams.erase(streams.begin() + static_cast<ptrdiff_t>(i));
    delete of(stream);
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    if (of(stream)->capturing) return refuse_capture(of(stream));
    drain(of(stream));
    return emulation::sticky_error();
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    if (of(stream)->capturing || of(event)->captured) return refuse_capture(of(stream));
    if (of(event)->recorded) put(of(stream), {nullptr, of(event), of(event)->recorded});
    return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    *event = reinterpret_cast<cudaEvent_t>(new Event());
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    drain_all();
    delete of(event);
    return cudaSuccess;
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags)
{
    if (!of(stream)->capturing)
        record(of(stream), of(event));
    else if (flags == cudaEventRecordExternal)
        of(stream)->graph.nodes.push_back({nullptr, of(event)});
    else
        of(event)->captured = true;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    return cudaEventRecordWithFlags(event, stream, cudaEventRecordDefault);
}
cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    const Event *waited = of(event);
    const cudaError_t error = check_no_capture();
    if (error || waited->captured) return error ? error : cudaErrorCapturedEvent;
    if (waited->recorded) advance(waited->stream, true, waited, waited->recorded);
    return emulation::sticky_error();
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    const Event *begin = of(from), *end = of(to);
    if (begin->captured || end->captured) return cudaErrorCapturedEvent;
    if (!begin->recorded || !end->recorded) return cudaErrorInvalidResourceHandle;
    if (begin->passed < begin->recorded || end->passed < end->recorded) return cudaErrorNotReady;
    *ms = (float)(1e3 * (double)(end->time.tv_sec - begin->time.tv_sec) +
                  1e-6 * (double)(end->time.tv_nsec - begin->time.tv_nsec));
    return cudaSuccess;
}

/* ---- graphs ---- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode)
{
    Stream *used = of(stream);
    if (used->capturing) return cudaErrorIllegalState;
    used->capturing = true;
    used->capture_error = cudaSuccess;
    used->graph.nodes.clear();
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    Stream *used = of(stream);
    *graph = nullptr;
    if (!used->capturing) return cudaErrorIllegalState;
    used->capturing = false;
    if (used->capture_error) return cudaErrorStreamCaptureInvalidated;
    *graph = reinterpret_cast<cudaGraph_t>(new Graph(used->graph));
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *made, cudaGraph_t graph, unsigned long long)
{
    counts.graphs++;
    *made = reinterpret_cast<cudaGraphExec_t>(new Graph(*reinterpret_cast<Graph *>(graph)));
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete reinterpret_cast<Graph *>(graph);
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph)
{
    delete reinterpret_cast<Graph *>(graph);
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream)
{
    counts.replays++;
    if (of(stream)->capturing) return refuse_capture(of(stream));
    for (const Node &node : reinterpret_cast<Graph *>(graph)->nodes)
        if (node.record)
            record(of(stream), node.record);
        else
            put(of(stream), {node.run, nullptr, 0});
    return cudaSuccess;
}

} /* extern "C" */
