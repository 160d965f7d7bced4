#include "core/synthesize/synthesize.hpp"

#include "core/base/output_file.hpp"
#include "core/model/model_config.hpp"
#include "core/synthesize/model_folder.hpp"
#include "core/synthesize/shard_plan.hpp"
#include "core/synthesize/weight_values.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <unistd.h>

namespace moira {

namespace {

/// What one thread makes and writes at a time: with 1 MiB the disk gave a tenth less, with more memory grows for nothing.
constexpr std::uint64_t part_bytes_max = std::uint64_t{4} << 20;
/// Config, tokenizer (about 25 bytes per token) and index (about 120 per tensor) beside the weights.
constexpr std::uint64_t small_files_bytes = std::uint64_t{32} << 20;
constexpr auto progress_interval = std::chrono::milliseconds(100);

/// A tensor's values and its place in the file.
struct placed_tensor {
    weight_values values;
    std::uint64_t offset = 0, bytes = 0, element_bytes = 1;
};

/// One shard, written by several threads: each takes the next part.
class shard_writer {
public:
    shard_writer(const planned_shard& shard, std::uint64_t seed, const output_file& file) : file_(file) {
        std::uint64_t offset = shard.prefix.size();
        for (const auto* tensor : shard.tensors) {
            tensors_.push_back(
                {weight_values(*tensor, seed), offset, tensor->bytes(), tensor_type_bytes(tensor->type)});
            offset += tensor->bytes();
        }
    }

    /// Returns 0, what the system said, or ECANCELED.
    int run(std::uint32_t threads, const std::function<void(std::uint64_t)>& progress,
            const std::function<bool()>& interrupted) {
        running_ = threads;
        std::vector<std::jthread> team;
        for (std::uint32_t i = 0; i < threads; ++i)
            team.emplace_back([this] { work(); });
        std::unique_lock lock(mutex_);
        // Asked and told at least once, also where the team ended before this thread came to look.
        for (bool ended = false; !ended;) {
            ended = ended_.wait_for(lock, progress_interval, [this] { return running_ == 0; });
            progress(written_);
            if (interrupted && interrupted())
                failure_ = ECANCELED;
        }
        return failure_;
    }

private:
    struct part {
        const placed_tensor* tensor = nullptr;
        std::uint64_t begin = 0, bytes = 0; ///< within the tensor
    };

    std::optional<part> take() {
        const std::lock_guard lock(mutex_);
        if (failure_ != 0 || next_tensor_ == tensors_.size())
            return std::nullopt;
        const auto& tensor = tensors_[next_tensor_];
        const part taken{&tensor, next_byte_, std::min(part_bytes_max, tensor.bytes - next_byte_)};
        next_byte_ += taken.bytes;
        if (next_byte_ == tensor.bytes) {
            ++next_tensor_;
            next_byte_ = 0;
        }
        return taken;
    }

    void work() {
        std::vector<std::byte> buffer(part_bytes_max);
        while (const auto taken = take()) {
            const auto bytes = std::span(buffer).first(taken->bytes);
            taken->tensor->values.fill(taken->begin / taken->tensor->element_bytes, bytes);
            const auto at = taken->tensor->offset + taken->begin;
            const int failure = file_.write_at(at, bytes);
            file_.begin_flush(at, bytes.size());
            const std::lock_guard lock(mutex_);
            written_ += bytes.size();
            if (failure != 0)
                failure_ = failure;
        }
        const std::lock_guard lock(mutex_);
        --running_;
        ended_.notify_all();
    }

    const output_file& file_;
    std::vector<placed_tensor> tensors_;
    std::mutex mutex_; ///< guards all below
    std::condition_variable ended_;
    std::size_t next_tensor_ = 0;
    std::uint64_t next_byte_ = 0, written_ = 0;
    std::uint32_t running_ = 0;
    int failure_ = 0;
};

result<void> check_dimensions(const synthetic_shape& shape) {
    const auto in = [](std::int64_t value, integer_range range) { return value >= range.least && value <= range.most; };
    // Every byte, and what begins, ends and pads a text.
    constexpr std::int32_t vocabulary_min = 256 + 3;
    if (!in(shape.layers, layers_range))
        return fail(errc::invalid_argument, std::to_string(shape.layers) + " layers; expected " +
                                                std::to_string(layers_range.least) + " to " +
                                                std::to_string(layers_range.most));
    if (shape.layers <= shape.dense_layers)
        return fail(errc::invalid_argument, shape.name + " has " + std::to_string(shape.dense_layers) +
                                                " leading layer(s) without experts: take at least " +
                                                std::to_string(shape.dense_layers + 1));
    if (!in(shape.vocabulary, {vocabulary_min, vocabulary_range.most}) || !in(shape.hidden, hidden_range) ||
        !in(shape.context_max, context_range) || !in(shape.heads, heads_range) || !in(shape.kv_heads, heads_range) ||
        !in(shape.head_dim, head_dim_range) || !in(shape.experts, experts_range) ||
        !in(shape.expert_inner, inner_range) || !in(shape.top_k, {1, shape.experts}))
        return fail(errc::invalid_argument, shape.name + ": a dimension is out of range");
    for (const auto id : {shape.eos, shape.bos.value_or(0), shape.pad.value_or(0)})
        if (!in(id, {0, shape.vocabulary - 1}))
            return fail(errc::invalid_argument, shape.name + ": a special token is outside the vocabulary");
    return {};
}

std::uint64_t bytes_of(const std::vector<planned_shard>& shards) {
    std::uint64_t bytes = 0;
    for (const auto& shard : shards)
        bytes += shard.file_bytes();
    return bytes;
}

result<void> write_shards(const synthesis& what, const model_folder& folder, const std::vector<planned_shard>& shards) {
    const auto total = bytes_of(shards);
    std::uint64_t before = 0;
    for (const auto& shard : shards) {
        const auto path = folder.path() / shard.file_name;
        const output_file file(path);
        int failure = file.reserve(shard.file_bytes());
        if (failure == 0)
            failure = file.write_at(0, std::as_bytes(std::span(shard.prefix)));
        before += shard.prefix.size();
        if (failure == 0)
            failure = shard_writer(shard, what.seed, file)
                          .run(
                              std::max(1u, what.threads),
                              [&](std::uint64_t written) {
                                  if (what.progress)
                                      what.progress(before + written, total);
                              },
                              what.interrupted);
        if (failure == 0)
            failure = file.flush();
        if (failure == ECANCELED)
            return fail(errc::cancelled, "interrupted; nothing was kept");
        if (failure != 0)
            return fail(errc::io_error, path.string() + " cannot be written: " + std::strerror(failure));
        before += shard.data_bytes;
    }
    return {};
}

result<void> write_texts(const synthesis& what, const model_folder& folder, const std::vector<planned_shard>& shards) {
    const std::pair<const char*, std::string> texts[] = {
        {"config.json", synthetic_config_json(what.shape, what.fp8, what.seed)},
        {"generation_config.json", synthetic_generation_config_json(what.shape)},
        {"tokenizer.json", synthetic_tokenizer_json(what.shape)},
        {"tokenizer_config.json", synthetic_tokenizer_config_json(what.shape)},
        {"model.safetensors.index.json", shard_index_json(shards)}};
    for (const auto& [name, text] : texts)
        if (auto written = folder.write_text(name, text); !written)
            return written;
    return {};
}

} // namespace

result<synthesized> synthesize(const synthesis& what) {
    if (auto checked = check_dimensions(what.shape); !checked)
        return tl::unexpected(checked.error());
    const auto tensors = synthetic_tensors(what.shape, what.fp8);
    const auto shards = plan_shards(tensors, what.shard_bytes_max);
    if (!shards)
        return tl::unexpected(shards.error());
    auto folder = model_folder::create(what.folder, what.replace);
    if (!folder)
        return tl::unexpected(folder.error());
    auto done = folder->require_space(bytes_of(*shards) + small_files_bytes);
    if (done)
        done = write_shards(what, *folder, *shards);
    if (done)
        done = write_texts(what, *folder, *shards);
    if (done)
        done = folder->publish();
    if (!done)
        return tl::unexpected(done.error());
    synthesized made{0, tensors.size(), shards->size()};
    for (const auto& tensor : tensors)
        made.bytes += tensor.bytes();
    return made;
}

} // namespace moira
