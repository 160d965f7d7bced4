#include "core/execute/device.hpp"

#include <array>
#include <chrono>
#include <set>
#include <utility>

namespace moira {

error plugin_error(const op_provider& provider, moira_status status, const std::string& doing) {
    std::array<char, MOIRA_TEXT_BYTES> words{};
    provider.api->last_error(words.data(), words.size());
    const errc code = status == MOIRA_OUT_OF_MEMORY ? errc::out_of_memory
                      : status == MOIRA_UNSUPPORTED ? errc::unsupported
                                                    : errc::device_error;
    return {code, provider.plugin + ": " + doing + ": " + words.data() + " (status " + std::to_string(status) + ")"};
}

result<std::optional<device_memory>> memory_of(const op_provider& provider) {
    moira_memory_info info{};
    info.struct_size = sizeof info;
    if (const auto status = provider.api->memory_info(provider.device, &info); status != MOIRA_OK)
        return tl::unexpected(plugin_error(provider, status, "asking for the device's memory"));
    if (info.bytes_total == 0)
        return std::optional<device_memory>();
    return device_memory{info.bytes_total, info.bytes_free};
}

// ---- device_buffer -------------------------------------------------------------------------------------------------

result<device_buffer> device_buffer::create(const op_provider& provider, std::uint64_t bytes, std::uint64_t alignment) {
    device_buffer made;
    if (bytes == 0)
        return made;
    const auto status = provider.api->buffer_create(provider.device, bytes, alignment, &made.buffer_);
    return std::move(made).own(provider, status, bytes, " bytes");
}

result<device_buffer> device_buffer::create_page_locked(const op_provider& provider, std::uint64_t bytes,
                                                        std::uint64_t alignment) {
    device_buffer made;
    if (bytes == 0)
        return made;
    const auto status = provider.api->host_buffer_create(provider.device, bytes, alignment, &made.buffer_);
    return std::move(made).own(provider, status, bytes, " bytes of page-locked host memory");
}

result<device_buffer> device_buffer::own(const op_provider& provider, moira_status status, std::uint64_t bytes,
                                         const char* what) && {
    if (status != MOIRA_OK)
        return tl::unexpected(plugin_error(provider, status, "allocating " + std::to_string(bytes) + what));
    provider_ = &provider;
    address_ = provider.api->buffer_address(buffer_);
    bytes_ = bytes;
    return std::move(*this);
}

device_buffer::device_buffer(device_buffer&& other) noexcept
    : provider_(std::exchange(other.provider_, nullptr)), buffer_(std::exchange(other.buffer_, nullptr)),
      address_(std::exchange(other.address_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

device_buffer& device_buffer::operator=(device_buffer&& other) noexcept {
    std::swap(provider_, other.provider_);
    std::swap(buffer_, other.buffer_);
    std::swap(address_, other.address_);
    std::swap(bytes_, other.bytes_);
    return *this;
}

device_buffer::~device_buffer() {
    if (buffer_)
        provider_->api->buffer_destroy(buffer_);
}

// ---- device_queue --------------------------------------------------------------------------------------------------

namespace {

const char* error_word_meaning(std::uint32_t code) {
    switch (code) {
    case MOIRA_ERROR_EXPERT_EMPTY:
        return "an expert's slot was empty";
    case MOIRA_ERROR_EXPERT_STALE:
        return "an expert's slot held another expert";
    case MOIRA_ERROR_TOKEN_OUT_OF_RANGE:
        return "a token id outside the vocabulary";
    case MOIRA_ERROR_PAGE_OUT_OF_RANGE:
        return "a KV page outside the pool";
    case MOIRA_ERROR_INJECTED:
        return "an injected fault";
    default:
        return "an unknown error";
    }
}

}  // namespace

result<device_queue> device_queue::create(const op_provider& memory) {
    device_queue made(memory);
    if (auto stream = made.stream_of(memory); !stream)
        return tl::unexpected(stream.error());
    return made;
}

device_queue::device_queue(const op_provider& memory) : memory_(&memory), current_(&memory) {}

device_queue::device_queue(device_queue&& other) noexcept
    : memory_(other.memory_), current_(other.current_), watch_(std::exchange(other.watch_, nullptr)),
      streams_(std::exchange(other.streams_, {})) {}

device_queue& device_queue::operator=(device_queue&& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(current_, other.current_);
    std::swap(watch_, other.watch_);
    std::swap(streams_, other.streams_);
    return *this;
}

device_queue::~device_queue() {
    for (auto& [provider, stream] : streams_)
        provider->api->stream_destroy(stream);
}

result<moira_stream*> device_queue::stream_of(const op_provider& provider) {
    if (const auto found = streams_.find(&provider); found != streams_.end())
        return found->second;
    moira_stream* stream = nullptr;
    if (const auto status = provider.api->stream_create(provider.device, &stream); status != MOIRA_OK)
        return tl::unexpected(plugin_error(provider, status, "creating a stream"));
    streams_.emplace(&provider, stream);
    return stream;
}

result<void> device_queue::synchronize_stream(const op_provider& provider, moira_stream* stream) {
    if (const auto status = provider.api->stream_synchronize(stream); status != MOIRA_OK && status != MOIRA_STEP_ERROR)
        return tl::unexpected(plugin_error(provider, status, "waiting for the device"));
    moira_error_word word{};
    if (const auto status = provider.api->stream_error(stream, &word); status != MOIRA_OK)
        return tl::unexpected(plugin_error(provider, status, "reading the step's error word"));
    if (word.code != MOIRA_ERROR_NONE)
        return fail(errc::device_error, provider.plugin + ": " + op_name(word.op) + ", row " + std::to_string(word.row) +
                                            ": " + error_word_meaning(word.code));
    return {};
}

result<void> device_queue::switch_to(const op_provider& provider) {
    if (current_ == &provider)
        return {};
    auto previous = stream_of(*current_);
    if (!previous)
        return tl::unexpected(previous.error());
    if (auto done = synchronize_stream(*current_, *previous); !done)
        return done;
    current_ = &provider;
    return {};
}

result<void> device_queue::launch(const bound_launch* list, std::size_t count) {
    return watch_ ? launch_watched(list, count) : launch_run(list, count);
}

result<void> device_queue::launch_watched(const bound_launch* list, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
        const auto begin = std::chrono::steady_clock::now();
        if (auto done = launch_run(list + i, 1); !done)
            return done;
        if (auto done = synchronize(); !done)
            return done;
        watch_->launched(list[i], std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    }
    return {};
}

result<void> device_queue::launch_run(const bound_launch* list, std::size_t count) {
    // Longer lists than any layer needs are split; a fixed array keeps the hot path free of allocation.
    constexpr std::size_t run_max = 16;
    std::array<moira_launch, run_max> run{};
    for (std::size_t begin = 0; begin < count;) {
        const auto& provider = *list[begin].op->provider;
        std::size_t size = 0;
        while (size < run_max && begin + size < count && list[begin + size].op->provider == &provider) {
            run[size] = {list[begin + size].op->op, list[begin + size].args};
            ++size;
        }
        if (auto ready = switch_to(provider); !ready)
            return ready;
        auto stream = stream_of(provider);
        if (!stream)
            return tl::unexpected(stream.error());
        const auto status = provider.api->launch(*stream, run.data(), static_cast<std::uint32_t>(size));
        if (status != MOIRA_OK)
            return tl::unexpected(plugin_error(provider, status, "launching " + std::string(op_name(list[begin].op->kind))));
        begin += size;
    }
    return {};
}

result<void> device_queue::upload(void* device_address, const void* host_address, std::uint64_t bytes) {
    auto stream = stream_of(*current_);
    if (!stream)
        return tl::unexpected(stream.error());
    const auto status = current_->api->copy_to_device(*stream, device_address, host_address, bytes);
    if (status != MOIRA_OK)
        return tl::unexpected(plugin_error(*current_, status, "copying to the device"));
    return {};
}

result<void> device_queue::download(void* host_address, const void* device_address, std::uint64_t bytes) {
    auto stream = stream_of(*current_);
    if (!stream)
        return tl::unexpected(stream.error());
    const auto status = current_->api->copy_to_host(*stream, host_address, device_address, bytes);
    if (status != MOIRA_OK)
        return tl::unexpected(plugin_error(*current_, status, "copying from the device"));
    return {};
}

result<void> device_queue::synchronize() {
    auto stream = stream_of(*current_);
    if (!stream)
        return tl::unexpected(stream.error());
    return synchronize_stream(*current_, *stream);
}

// ---- op_set --------------------------------------------------------------------------------------------------------

op_set::op_set(const op_selector& selector) : selector_(&selector) {}

op_set::~op_set() {
    for (auto& [key, op] : ops_)
        op->provider->api->op_destroy(op->op);
}

result<const prepared_op*> op_set::prepare_header(const moira_op_header& header) {
    const std::string key(reinterpret_cast<const char*>(&header), header.struct_size);
    if (const auto found = ops_.find(key); found != ops_.end())
        return found->second.get();
    auto choice = selector_->choose(header);
    if (!choice)
        return tl::unexpected(choice.error());
    auto made = std::make_unique<prepared_op>();
    made->provider = choice->provider;
    made->kind = header.op;
    made->numerics_id = choice->numerics_id;
    const auto* bytes = reinterpret_cast<const std::byte*>(&header);
    made->desc_bytes.assign(bytes, bytes + header.struct_size);
    std::uint64_t workspace = 0;
    const auto status = made->provider->api->op_prepare(made->provider->device, &header, &made->op, &workspace);
    if (status != MOIRA_OK)
        return tl::unexpected(plugin_error(*made->provider, status, "preparing " + std::string(op_name(header.op))));
    workspace_bytes_ = std::max(workspace_bytes_, workspace);
    return ops_.emplace(key, std::move(made)).first->second.get();
}

std::map<std::string, std::string> op_set::plugins() const {
    std::map<std::string, std::string> chosen;
    for (const auto& [key, op] : ops_)
        chosen[op_name(op->kind)] = op->provider->plugin;
    return chosen;
}

std::string op_set::numerics_id() const {
    std::set<std::string> ids;
    for (const auto& [key, op] : ops_)
        ids.insert(op->numerics_id);
    std::string joined;
    for (const auto& id : ids)
        joined += (joined.empty() ? "" : "+") + id;
    return joined;
}

}  // namespace moira
