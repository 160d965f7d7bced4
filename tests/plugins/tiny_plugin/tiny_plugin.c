/* A plugin that computes nothing: it answers queries, and breaks one promise of the border when it is built to. */
#include "plugins/moira_plugin.h"

#include <string.h>

#ifndef TINY_NAME
#define TINY_NAME "tiny"
#endif
#ifndef TINY_CLASS
#define TINY_CLASS "cpu"
#endif
#ifndef TINY_SCORE
#define TINY_SCORE 10
#endif
#ifndef TINY_REASON
#define TINY_REASON "always runs"
#endif
/* The one op it can run, and how well. */
#ifndef TINY_OP
#define TINY_OP MOIRA_OP_RMSNORM
#endif
#ifndef TINY_OP_SCORE
#define TINY_OP_SCORE 1
#endif
#ifndef TINY_PROBE_MAJOR
#define TINY_PROBE_MAJOR MOIRA_ABI_MAJOR
#endif
#ifndef TINY_PROBE_MINOR
#define TINY_PROBE_MINOR MOIRA_ABI_MINOR
#endif
#ifndef TINY_TABLE_MAJOR
#define TINY_TABLE_MAJOR MOIRA_ABI_MAJOR
#endif
#ifndef TINY_TABLE_BYTES
#define TINY_TABLE_BYTES sizeof(moira_plugin_api)
#endif
#ifndef TINY_PROBE_FUNCTION
#define TINY_PROBE_FUNCTION moira_plugin_probe_v0
#endif

#define EXPORT __attribute__((visibility("default")))

struct moira_device {
    const moira_host* host;
};

static void last_error(char* text, uint64_t bytes) {
    static const char words[] = "tiny refuses";
    if (bytes == 0)
        return;
    strncpy(text, words, bytes - 1);
    text[bytes - 1] = 0;
}

static moira_status device_open(const moira_host* host, uint32_t index, moira_device** device) {
#ifdef TINY_DEVICE_FAILS
    (void)host, (void)index, (void)device;
    return MOIRA_DEVICE_LOST;
#else
    if (index != 0)
        return MOIRA_INVALID_ARGUMENT;
    *device = host->allocate(host->context, sizeof **device, 0);
    if (!*device)
        return MOIRA_OUT_OF_MEMORY;
    (*device)->host = host;
    return MOIRA_OK;
#endif
}
static void device_close(moira_device* device) { device->host->release(device->host->context, device); }

static moira_status buffer_create(moira_device* d, uint64_t bytes, uint64_t alignment, moira_buffer** buffer) {
    (void)d, (void)bytes, (void)alignment, (void)buffer;
    return MOIRA_UNSUPPORTED;
}
static void buffer_destroy(moira_buffer* buffer) { (void)buffer; }
static void* buffer_address(moira_buffer* buffer) { return buffer; }
static moira_status stream_create(moira_device* device, moira_stream** stream) {
    (void)device, (void)stream;
    return MOIRA_UNSUPPORTED;
}
static void stream_destroy(moira_stream* stream) { (void)stream; }
static moira_status stream_synchronize(moira_stream* stream) { return (void)stream, MOIRA_UNSUPPORTED; }
static moira_status stream_error(moira_stream* stream, moira_error_word* word) {
    return (void)stream, (void)word, MOIRA_UNSUPPORTED;
}
static moira_status copy_to_device(moira_stream* stream, void* to, const void* from, uint64_t bytes) {
    return (void)stream, (void)to, (void)from, (void)bytes, MOIRA_UNSUPPORTED;
}
static moira_status event_create(moira_device* device, moira_event** event) {
    return (void)device, (void)event, MOIRA_UNSUPPORTED;
}
static void event_destroy(moira_event* event) { (void)event; }
static moira_status event_on_stream(moira_stream* stream, moira_event* event) {
    return (void)stream, (void)event, MOIRA_UNSUPPORTED;
}
static moira_status event_done(moira_event* event, uint32_t* done) { return (void)event, (void)done, MOIRA_UNSUPPORTED; }

static moira_status op_query(moira_device* device, const moira_op_header* desc, moira_op_support* support) {
    (void)device;
#ifdef TINY_ENDLESS_SUPPORT
    memset(support->numerics_id, 'x', sizeof support->numerics_id);
#else
    strcpy(support->numerics_id, TINY_NAME);
#endif
    support->row_exact = 1;
    support->thread_exact = 1;
    support->score = desc->op == TINY_OP ? TINY_OP_SCORE : 0;
    strcpy(support->reason, desc->op == TINY_OP ? "its only op" : "knows only one op");
    return MOIRA_OK;
}
static moira_status op_prepare(moira_device* device, const moira_op_header* desc, moira_op** op, uint64_t* bytes) {
    return (void)device, (void)desc, (void)op, (void)bytes, MOIRA_UNSUPPORTED;
}
static void op_destroy(moira_op* op) { (void)op; }
static moira_status launch(moira_stream* stream, const moira_launch* list, uint32_t count) {
    return (void)stream, (void)list, (void)count, MOIRA_UNSUPPORTED;
}
static moira_status pack_query(moira_device* device, const moira_pack_desc* desc, moira_pack_info* info) {
    return (void)device, (void)desc, (void)info, MOIRA_UNSUPPORTED;
}
static moira_status pack(moira_device* device, const moira_pack_desc* desc, const moira_pack_source* sources,
                         void* packed, void* scratch) {
    return (void)device, (void)desc, (void)sources, (void)packed, (void)scratch, MOIRA_UNSUPPORTED;
}
static moira_status memory_info(moira_device* device, moira_memory_info* info) {
    return (void)device, (void)info, MOIRA_UNSUPPORTED;
}
static moira_status graph_begin(moira_stream* stream) { return (void)stream, MOIRA_UNSUPPORTED; }
static moira_status graph_end(moira_stream* stream, moira_graph** graph) {
    return (void)stream, (void)graph, MOIRA_UNSUPPORTED;
}
static moira_status graph_launch(moira_stream* stream, moira_graph* graph) {
    return (void)stream, (void)graph, MOIRA_UNSUPPORTED;
}
static void graph_destroy(moira_graph* graph) { (void)graph; }
#ifndef TINY_NULL_FUNCTION
static moira_status unpack(moira_device* device, const moira_pack_desc* desc, const void* packed, void* const* weights,
                           void* scratch) {
    return (void)device, (void)desc, (void)packed, (void)weights, (void)scratch, MOIRA_UNSUPPORTED;
}
#endif

static const moira_plugin_api api = {
    .struct_size = TINY_TABLE_BYTES,
    .abi_major = TINY_TABLE_MAJOR,
    .abi_minor = MOIRA_ABI_MINOR,
    .last_error = last_error,
    .device_open = device_open,
    .device_close = device_close,
    .buffer_create = buffer_create,
    .buffer_destroy = buffer_destroy,
    .buffer_address = buffer_address,
    .stream_create = stream_create,
    .stream_destroy = stream_destroy,
    .stream_synchronize = stream_synchronize,
    .stream_error = stream_error,
    .copy_to_device = copy_to_device,
    .copy_to_host = copy_to_device,
    .event_create = event_create,
    .event_destroy = event_destroy,
    .event_record = event_on_stream,
    .event_wait = event_on_stream,
    .event_done = event_done,
    .op_query = op_query,
    .op_prepare = op_prepare,
    .op_destroy = op_destroy,
    .launch = launch,
    .pack_query = pack_query,
    .pack = pack,
#ifndef TINY_NULL_FUNCTION
    .unpack = unpack,
#endif
    .memory_info = memory_info,
    .host_buffer_create = buffer_create,
    .graph_begin = graph_begin,
    .graph_end = graph_end,
    .graph_launch = graph_launch,
    .graph_destroy = graph_destroy,
};

EXPORT moira_status TINY_PROBE_FUNCTION(const moira_device_facts* facts, moira_probe* probe);
EXPORT moira_status moira_plugin_open_v0(const moira_plugin_api** table);

moira_status TINY_PROBE_FUNCTION(const moira_device_facts* facts, moira_probe* probe) {
    if (facts->struct_size < sizeof *facts || probe->struct_size < sizeof *probe)
        return MOIRA_INVALID_ARGUMENT;
#ifdef TINY_PROBE_FAILS
    return MOIRA_DEVICE_LOST;
#else
    probe->abi_major = TINY_PROBE_MAJOR;
    probe->abi_minor = TINY_PROBE_MINOR;
    probe->score = TINY_SCORE;
    strcpy(probe->name, TINY_NAME);
    strcpy(probe->device_class, TINY_CLASS);
    strcpy(probe->reason, TINY_REASON);
#ifdef TINY_ENDLESS_TEXT
    /* From this field on, no byte of the struct is zero. */
    memset(probe->TINY_ENDLESS_TEXT, 'x', (size_t)((char*)(probe + 1) - probe->TINY_ENDLESS_TEXT));
#endif
    return MOIRA_OK;
#endif
}

moira_status moira_plugin_open_v0(const moira_plugin_api** table) {
#ifdef TINY_OPEN_FAILS
    (void)table, (void)api;
    return MOIRA_UNSUPPORTED;
#else
    *table = &api;
    return MOIRA_OK;
#endif
}
