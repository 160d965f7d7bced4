#pragma once

#include "core/pack/pack_plan.hpp"

#include <filesystem>
#include <functional>
#include <optional>

namespace moira {

struct route_trace;

/// One model packed into another folder.
struct pack_request {
    std::filesystem::path source, target;
    packed_precision experts = packed_precision::keep;
    std::uint64_t shard_bytes_max = pack_wish{}.shard_bytes_max;
    /// Experts get the layout of its plugin for them; null: gate, up and down, which every reader of safetensors opens.
    const op_selector* layout = nullptr;
    /// Finds the plugin that undoes the layout of the source's experts; needed only where they have one that changes.
    const op_selector* source_plugins = nullptr;
    const route_trace* routes = nullptr; ///< experts that are chosen together come to lie together; null: by number
    bool restart = false;                ///< throw away what an unfinished pack left
    std::uint32_t threads = 1;
    /// Bytes after which finished units are put on the disk and into the journal: less is lost by a crash, but each
    /// time costs a few milliseconds.
    std::uint64_t commit_bytes = std::uint64_t{64} << 20;
    /// Bytes done so far, and in all. On the calling thread, several times a second.
    std::function<void(std::uint64_t, std::uint64_t)> progress;
    std::function<bool()> interrupted;
};

struct pack_report {
    std::uint64_t bytes_before = 0, bytes_after = 0; ///< of the weight files
    std::uint64_t expert_bytes = 0;                  ///< of all experts in the pack, without padding
    std::uint64_t experts = 0, shards = 0;
    std::uint64_t resumed_bytes = 0;          ///< that an earlier attempt had done
    std::string quantized_from;               ///< empty: nothing was rounded now
    std::string layout;                       ///< "layout 197121 of cpu_avx512"; empty: gate, up and down
    std::optional<double> max_relative_error; ///< see rounding_error; none: nothing was rounded
    std::vector<std::string> notices;
};

/// Packs, or goes on with what an earlier attempt left: the same bytes come out. The source is only read. What was done
/// is kept when it fails, and the message says so. Errors: those of checkpoint::open, plan_pack, pack_place and
/// pack_journal; io_error (a full disk too), corrupt_file (a damaged source), cancelled, invalid_argument (a recording
/// of another model).
result<pack_report> pack_model(const pack_request& request);

} // namespace moira
