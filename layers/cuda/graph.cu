/* Forwards as CUDA graphs: what is queued under a number is captured from the stream in its second turn, and from then on
 * launched whole.
 *
 * The first turn is plain because it prepares what a capture must not: the driver loads kernels when they are first
 * launched, events are made. Copies of draws are nodes that read pinned memory, which the host
 * fills anew before each launch; events are nodes, so that layers are timed in a graph as well.
 */
#include "layers/cuda/cuda_device.h"

bool t2t_cuda_graph_begin(struct layer_device *device, size_t number)
{
    if (!device->graph) return true;
    device->turn = 0;
    while (device->turn < device->graphs.size() && device->graphs[device->turn].number != number) device->turn++;
    if (device->turn == device->graphs.size()) {
        device->graphs.push_back({number, nullptr});
        device->turn = device->graphs.size(); /* none: this turn is plain */
        return true;
    }
    if (device->graphs[device->turn].recorded) return false;
    const cudaError_t error = cudaStreamBeginCapture(device->stream, cudaStreamCaptureModeThreadLocal);
    device->recording = !error;
    t2t_cuda_check(device, error, "recording a forward");
    return true;
}

void t2t_cuda_graph_end(struct layer_device *device)
{
    if (!device->graph || device->turn == device->graphs.size()) return;
    Graph *graph = &device->graphs[device->turn];
    cudaError_t error = cudaSuccess;
    if (device->recording) {
        cudaGraph_t captured = nullptr;
        device->recording = false;
        error = cudaStreamEndCapture(device->stream, &captured);
        if (!error && !*device->failure) error = cudaGraphInstantiate(&graph->recorded, captured, 0);
        if (error) graph->recorded = nullptr;
        if (captured) cudaGraphDestroy(captured);
    }
    if (!error && graph->recorded) error = cudaGraphLaunch(graph->recorded, device->stream);
    t2t_cuda_check(device, error, "a recorded forward");
}

void t2t_cuda_graph_close(struct layer_device *device)
{
    for (const Graph &graph : device->graphs)
        if (graph.recorded) cudaGraphExecDestroy(graph.recorded);
}
