#include "core/execute/compute_pool.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>

namespace moira {

struct plugin_host_services::impl {
    compute_pool& pool;
    log_function log;
    moira_host table{};
};

namespace {

/// One cache line, and one AVX-512 register.
constexpr std::uint64_t alignment_min = 64;

/// Larger requests are mistakes: the address space ends at 2^47.
constexpr std::uint64_t bytes_max = std::uint64_t{1} << 47;

/// x86-64's large page. A weight of several of them is read in one stream: with small pages every 4 KiB costs a walk
/// through the page tables, and the processor's prefetchers stop at each border.
constexpr std::uint64_t large_page_bytes = std::uint64_t{2} << 20;
constexpr std::uint64_t large_allocation_bytes = 2 * large_page_bytes; ///< below, rounding up would cost too much

void* allocate(void*, std::uint64_t bytes, std::uint64_t alignment) {
    const bool large = bytes >= large_allocation_bytes;
    const std::uint64_t step = std::max({alignment, alignment_min, large ? large_page_bytes : 0});
    if (!std::has_single_bit(step) || bytes > bytes_max || step > bytes_max)
        return nullptr;
    void* address = nullptr;
    if (posix_memalign(&address, step, std::max<std::uint64_t>(bytes, 1)) != 0)
        return nullptr;
    if (large) // a wish, as for the memory of experts
        ::madvise(address, bytes / large_page_bytes * large_page_bytes, MADV_HUGEPAGE);
    return address;
}

void release(void*, void* address) {
    std::free(address);
}

log_level level_of(std::int32_t level) {
    switch (level) {
    case MOIRA_LOG_DEBUG:
        return log_level::debug;
    case MOIRA_LOG_INFO:
        return log_level::info;
    case MOIRA_LOG_WARNING:
        return log_level::warning;
    default:
        return log_level::error;
    }
}

void team_barrier(void*, const moira_team_member* member) {
    compute_pool::barrier(*member);
}

} // namespace

plugin_host_services::plugin_host_services(compute_pool& pool, log_function log)
    : impl_(std::make_unique<impl>(impl{pool, std::move(log), {}})) {
    moira_host& table = impl_->table;
    table.struct_size = sizeof table;
    table.abi_major = MOIRA_ABI_MAJOR;
    table.abi_minor = MOIRA_ABI_MINOR;
    table.context = impl_.get();
    table.allocate = allocate;
    table.release = release;
    table.log = [](void* context, std::int32_t level, const char* message) {
        const impl& parts = *static_cast<impl*>(context);
        if (parts.log && message)
            parts.log(level_of(level), std::string(message, strnlen(message, plugin_message_bytes_max)));
    };
    table.run_team = [](void* context, std::uint32_t team_size_max, moira_team_function function, void* argument) {
        static_cast<impl*>(context)->pool.run(team_size_max, function, argument);
    };
    table.team_barrier = team_barrier;
    table.team_size = [](void* context) { return static_cast<impl*>(context)->pool.size(); };
}

plugin_host_services::~plugin_host_services() = default;

const moira_host& plugin_host_services::table() const noexcept {
    return impl_->table;
}

} // namespace moira
