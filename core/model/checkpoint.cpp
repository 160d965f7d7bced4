#include "core/model/checkpoint.hpp"

#include "core/model/architectures/architecture.hpp"
#include "core/model/checkpoint_files.hpp"
#include "core/model/checkpoint_weight.hpp"
#include "core/model/content_hash.hpp"
#include "core/model/shown_name.hpp"

#include <fcntl.h>
#include <set>

namespace moira {

namespace {

/// Configurations have a few kilobytes; a vocabulary once put inside one made it some hundred.
constexpr std::uint64_t config_bytes_max = 4'000'000;

/// Of a range that is only compared: larger pieces read no faster.
constexpr std::uint64_t piece_bytes_max = std::uint64_t{4} << 20;

std::string dimensions(const std::vector<std::int64_t>& shape) {
    std::string text = "[";
    for (const auto dimension : shape)
        text += (text.size() > 1 ? ", " : "") + std::to_string(dimension);
    return text + "]";
}

using tensor_map = std::map<std::string, tensor_location, std::less<>>;

/// What the files hold, and how their experts lie.
struct stored_tensors {
    const tensor_map& tensors;
    const stored_layout* layout = nullptr;
};

/// Whether a part of an expert stands in a `*.packed` tensor that is as it should be.
result<bool> is_packed(const expected_tensor& wanted, const stored_tensors& stored) {
    const auto at = wanted.packed.empty() ? stored.tensors.end() : stored.tensors.find(wanted.packed);
    if (at == stored.tensors.end())
        return false;
    if (!stored.layout)
        return fail(errc::corrupt_file, "tensor " + wanted.packed + " is there, but no file says in its metadata (" +
                                            std::string(expert_layout_key) + ") how it is to be read");
    if (stored.tensors.contains(wanted.name))
        return fail(errc::corrupt_file,
                    "both " + wanted.name + " and " + wanted.packed + " are there: which one holds?");
    if (auto checked = check_packed_expert(at->second, *stored.layout); !checked)
        return tl::unexpected(checked.error());
    return true;
}

/// The first expected tensor that is missing, if any; a tensor of another shape is an error.
result<const expected_tensor*> first_missing(const std::vector<expected_tensor>& expected,
                                             const stored_tensors& stored) {
    const expected_tensor* missing = nullptr;
    for (const auto& tensor : expected) {
        const auto packed = is_packed(tensor, stored);
        if (!packed)
            return tl::unexpected(packed.error());
        if (*packed)
            continue;
        if (stored.layout && !tensor.packed.empty()) { // one form for all experts
            missing = missing ? missing : &tensor;
            continue;
        }
        const auto& tensors = stored.tensors;
        const auto at = tensors.find(tensor.name);
        if (at == tensors.end()) {
            missing = missing ? missing : &tensor;
            continue;
        }
        if (at->second.shape != tensor.shape)
            return fail(errc::invalid_config, "tensor " + tensor.name + " has shape " + dimensions(at->second.shape) +
                                                  "; config.json makes it " + dimensions(tensor.shape));
    }
    return missing;
}

result<void> require_all(const weight_list& weights, const stored_tensors& stored, std::set<std::string>& read) {
    const auto missing = first_missing(weights.tensors(), stored);
    if (!missing)
        return tl::unexpected(missing.error());
    if (*missing)
        return fail(errc::invalid_config,
                    stored.layout && !(*missing)->packed.empty()
                        ? "tensor " + (*missing)->packed + " is missing; the other experts are packed"
                        : "tensor " + (*missing)->name + " is missing; expected shape " +
                              dimensions((*missing)->shape));
    for (const auto& tensor : weights.tensors())
        read.insert(stored.layout && !tensor.packed.empty() ? tensor.packed : tensor.name);
    return {};
}

/// Layer by layer, so that a configuration that promises more than the files hold ends at the first missing tensor
/// and not after listing millions.
result<void> require_weights(const architecture& described, const model_shape& shape, const stored_tensors& tensors,
                             std::set<std::string>& read) {
    if (const auto* layout = tensors.layout; layout && (layout->n != static_cast<std::uint32_t>(shape.moe.inner) ||
                                                        layout->k != static_cast<std::uint32_t>(shape.hidden)))
        return fail(errc::invalid_config, "the packed experts are [" + std::to_string(layout->n) + ", " +
                                              std::to_string(layout->k) + "]; config.json makes them [" +
                                              std::to_string(shape.moe.inner) + ", " + std::to_string(shape.hidden) +
                                              "]");
    model_weight_names names;
    weight_list outer;
    described.outer_weights(shape, names, outer);
    if (auto found = require_all(outer, tensors, read); !found)
        return found;
    for (std::int32_t layer = 0; layer < shape.layers; ++layer) {
        layer_weight_names layer_names;
        weight_list weights;
        described.layer_weights(shape, layer, layer_names, weights);
        if (auto found = require_all(weights, tensors, read); !found)
            return found;
    }
    return {};
}

/// Multi-token prediction is optional: modules that are not there are said and forgotten.
result<void> find_mtp_modules(const architecture& described, model_shape& shape, const stored_tensors& tensors,
                              std::vector<std::string>& notices) {
    for (std::int32_t module = 0; module < shape.mtp_layers; ++module) {
        mtp_weight_names names;
        layer_weight_names block;
        weight_list weights;
        if (described.mtp_weights)
            described.mtp_weights(shape, module, names, block, weights);
        const auto missing = first_missing(weights.tensors(), tensors);
        if (!missing)
            return tl::unexpected(missing.error());
        if (!*missing && described.mtp_weights)
            continue;
        notices.push_back("config.json declares " + std::to_string(shape.mtp_layers) +
                          " multi-token-prediction layer(s), of which the files hold " + std::to_string(module) +
                          (*missing ? " (" + (*missing)->name + " is missing)" : std::string()));
        shape.mtp_layers = module;
    }
    return {};
}

/// Tensors that no layer claims, scales of quantised weights and prediction modules aside.
void notice_unread(const model_shape& shape, const tensor_map& tensors, const std::set<std::string>& read,
                   std::vector<std::string>& notices) {
    const std::string scale_suffix = scale_name("");
    std::vector<std::string> module_prefixes;
    for (std::int32_t module = 0; module < shape.mtp_layers; ++module)
        module_prefixes.push_back("model.layers." + std::to_string(shape.layers + module) + ".");
    std::size_t count = 0;
    std::string first;
    for (const auto& [name, tensor] : tensors) {
        std::string owner = name;
        if (owner.ends_with(scale_suffix))
            owner.resize(owner.size() - scale_suffix.size());
        bool known = read.contains(owner);
        for (const auto& prefix : module_prefixes)
            known = known || name.starts_with(prefix);
        if (known)
            continue;
        if (count++ == 0)
            first = shown_name(name);
    }
    if (count > 0)
        notices.push_back(std::to_string(count) + " tensor(s) are read by nobody, the first is " + first);
}

result<model_shape> read_shape(const std::filesystem::path& folder) {
    const auto config = read_text_file(folder / "config.json", config_bytes_max);
    if (!config)
        return tl::unexpected(config.error());
    const auto generation = read_text_file(folder / "generation_config.json", config_bytes_max);
    if (!generation && generation.error().code != errc::not_found)
        return tl::unexpected(generation.error());
    return read_model_config(*config, generation ? *generation : std::string(), folder.string());
}

} // namespace

struct checkpoint::impl {
    std::filesystem::path folder;
    model_shape shape;
    checkpoint_files opened;
    std::vector<std::filesystem::path> paths;
    std::uint64_t tensor_bytes = 0;
    std::vector<std::string> notices;
};

checkpoint::checkpoint(std::unique_ptr<impl> parts) : impl_(std::move(parts)) {}
checkpoint::checkpoint(checkpoint&&) noexcept = default;
checkpoint& checkpoint::operator=(checkpoint&&) noexcept = default;
checkpoint::~checkpoint() = default;

result<checkpoint> checkpoint::open(const std::filesystem::path& folder) {
    auto parts = std::make_unique<impl>();
    parts->folder = folder;
    auto shape = read_shape(folder);
    if (!shape)
        return tl::unexpected(shape.error());
    parts->shape = std::move(*shape);
    auto opened = open_checkpoint_files(folder);
    if (!opened)
        return tl::unexpected(opened.error());
    parts->opened = std::move(*opened);
    const auto& tensors = parts->opened.tensors;

    const auto& described = *find_architecture(parts->shape.architecture);
    const stored_tensors stored{tensors, parts->opened.layout ? &*parts->opened.layout : nullptr};
    std::set<std::string> read;
    auto checked = require_weights(described, parts->shape, stored, read);
    if (checked)
        checked = find_mtp_modules(described, parts->shape, stored, parts->notices);
    if (!checked)
        return fail(checked.error().code, folder.string() + ": " + checked.error().message);
    notice_unread(parts->shape, tensors, read, parts->notices);

    for (const auto& file : parts->opened.files)
        parts->paths.push_back(file.path());
    for (const auto& [name, tensor] : tensors)
        parts->tensor_bytes += tensor.bytes;
    return checkpoint(std::move(parts));
}

const std::filesystem::path& checkpoint::folder() const noexcept {
    return impl_->folder;
}
const model_shape& checkpoint::shape() const noexcept {
    return impl_->shape;
}
const std::vector<std::filesystem::path>& checkpoint::files() const noexcept {
    return impl_->paths;
}
int checkpoint::file_descriptor(std::uint32_t file) const noexcept {
    return impl_->opened.files[file].descriptor();
}
std::uint64_t checkpoint::file_bytes(std::uint32_t file) const noexcept {
    return impl_->opened.files[file].bytes();
}
std::uint64_t checkpoint::tensor_bytes_total() const noexcept {
    return impl_->tensor_bytes;
}
const stored_layout* checkpoint::expert_layout() const noexcept {
    return impl_->opened.layout ? &*impl_->opened.layout : nullptr;
}
const std::vector<std::string>& checkpoint::notices() const noexcept {
    return impl_->notices;
}
const tensor_map& checkpoint::tensors() const noexcept {
    return impl_->opened.tensors;
}

const tensor_location* checkpoint::find(std::string_view name) const noexcept {
    const auto at = impl_->opened.tensors.find(name);
    return at == impl_->opened.tensors.end() ? nullptr : &at->second;
}

result<void> checkpoint::read(const tensor_location& tensor, std::span<std::byte> into) const {
    if (tensor.file >= impl_->opened.files.size() || into.size() != tensor.bytes)
        return fail(errc::invalid_argument, "tensor " + tensor.name + " has " + std::to_string(tensor.bytes) +
                                                " bytes; the buffer has " + std::to_string(into.size()));
    const auto& file = impl_->opened.files[tensor.file];
    const auto* range = covering_range(checksums(tensor.file), tensor.offset, tensor.bytes);
    const bool exact = range && range->offset == tensor.offset && range->bytes == tensor.bytes;
    for (bool again = false;; again = true) {
        if (auto read = file.read_at(tensor.offset, into); !read)
            return fail(read.error().code, "tensor " + tensor.name + ": " + read.error().message);
        if (!exact)
            return {};
        auto checked = check_content(*range, into, "tensor " + tensor.name, file.path().string());
        if (checked || again)
            return checked;
        // What was damaged on its way here is whole the second time, unless the page cache answers.
        ::posix_fadvise(file.descriptor(), static_cast<off_t>(tensor.offset), static_cast<off_t>(tensor.bytes),
                        POSIX_FADV_DONTNEED);
    }
}

result<void> checkpoint::read_part(const tensor_location& tensor, std::uint64_t begin,
                                   std::span<std::byte> into) const {
    if (tensor.file >= impl_->opened.files.size() || begin > tensor.bytes || into.size() > tensor.bytes - begin)
        return fail(errc::invalid_argument, "tensor " + tensor.name + " has " + std::to_string(tensor.bytes) +
                                                " bytes; asked for " + std::to_string(into.size()) + " at " +
                                                std::to_string(begin));
    if (auto read = impl_->opened.files[tensor.file].read_at(tensor.offset + begin, into); !read)
        return fail(read.error().code, "tensor " + tensor.name + ": " + read.error().message);
    return {};
}

result<void> checkpoint::verify(const tensor_location& tensor) const {
    const auto* range = covering_range(checksums(tensor.file), tensor.offset, tensor.bytes);
    if (!range)
        return {};
    const auto& file = impl_->opened.files[tensor.file];
    std::vector<std::byte> piece(std::min(range->bytes, piece_bytes_max));
    content_hasher hasher;
    for (std::uint64_t done = 0; done < range->bytes;) {
        const auto next = std::span(piece).first(std::min(range->bytes - done, piece_bytes_max));
        if (auto read = file.read_at(range->offset + done, next); !read)
            return read;
        hasher.add(next);
        done += next.size();
    }
    if (hasher.value() == range->hash)
        return {};
    return tl::unexpected(damaged_content(*range, hasher.value(), "tensor " + tensor.name, file.path().string()));
}

std::span<const checksum_range> checkpoint::checksums(std::uint32_t file) const noexcept {
    if (file >= impl_->opened.checksums.size())
        return {};
    return impl_->opened.checksums[file];
}

result<void> check_runnable(const checkpoint& model, std::int32_t mtp_modules) {
    const auto& shape = model.shape();
    const auto* described = find_architecture(shape.architecture);
    for (std::int32_t layer = -1; layer < shape.layers + mtp_modules; ++layer) {
        model_weight_names outer_names;
        layer_weight_names layer_names;
        mtp_weight_names mtp_names;
        weight_list weights;
        if (layer < 0)
            described->outer_weights(shape, outer_names, weights);
        else if (layer < shape.layers)
            described->layer_weights(shape, layer, layer_names, weights);
        else
            described->mtp_weights(shape, layer - shape.layers, mtp_names, layer_names, weights);
        for (const auto& expected : weights.tensors()) {
            if (model.expert_layout() && !expected.packed.empty())
                continue; // opening has looked at it
            const auto stored = find_weight(model, expected.name);
            if (!stored)
                return tl::unexpected(stored.error());
            // Rows of the embedding are looked up, not multiplied: nobody would apply the scales.
            if (stored->scales && expected.name == outer_names.embedding)
                return fail(errc::unsupported, "tensor " + expected.name + " is " +
                                                   std::string(tensor_type_name(stored->weight->type)) +
                                                   "; embeddings are read as BF16, F16 or F32");
        }
    }
    return {};
}

} // namespace moira
