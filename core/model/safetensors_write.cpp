#include "core/base/checked.hpp"
#include "core/model/safetensors_prefix.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <set>
#include <unistd.h>

namespace moira {

namespace {

result<void> check_tensors(const std::vector<tensor_to_write>& tensors) {
    std::set<std::string_view> names;
    for (const auto& tensor : tensors) {
        std::optional<std::uint64_t> bytes = tensor_type_bytes(tensor.type);
        for (const auto dimension : tensor.shape) {
            if (dimension < 0)
                return fail(errc::invalid_argument, "tensor '" + tensor.name + "' has a negative dimension");
            if (bytes)
                bytes = checked_mul(*bytes, static_cast<std::uint64_t>(dimension));
        }
        if (bytes != tensor.bytes.size())
            return fail(errc::invalid_argument, "tensor '" + tensor.name + "' brings " +
                                                    std::to_string(tensor.bytes.size()) +
                                                    " bytes, which is not what its shape and type need");
        if (tensor.name == "__metadata__" || !names.insert(tensor.name).second)
            return fail(errc::invalid_argument, "the name '" + tensor.name + "' is reserved or occurs twice");
    }
    return {};
}

/// A file that is removed again unless it was renamed to its final name.
class temporary_file {
public:
    explicit temporary_file(std::filesystem::path target) : target_(std::move(target)) {
        // The process id keeps two writers of one target apart.
        path_ = target_.string() + ".part" + std::to_string(::getpid());
        descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    }
    temporary_file(const temporary_file&) = delete;
    temporary_file& operator=(const temporary_file&) = delete;
    ~temporary_file() {
        if (descriptor_ >= 0) {
            ::close(descriptor_);
            ::unlink(path_.c_str());
        }
    }

    bool is_open() const { return descriptor_ >= 0; }

    bool write(std::span<const std::byte> bytes) {
        constexpr std::size_t write_bytes_max = std::size_t{1} << 30; // Linux transfers less than 2 GiB per call
        while (!bytes.empty()) {
            const auto written = ::write(descriptor_, bytes.data(), std::min(bytes.size(), write_bytes_max));
            if (written < 0 && errno == EINTR)
                continue;
            if (written <= 0)
                return false;
            bytes = bytes.subspan(static_cast<std::size_t>(written));
        }
        return true;
    }

    bool publish() {
        if (::fsync(descriptor_) != 0 || ::rename(path_.c_str(), target_.c_str()) != 0)
            return false;
        ::close(std::exchange(descriptor_, -1));
        return true;
    }

private:
    std::filesystem::path target_, path_;
    int descriptor_ = -1;
};

} // namespace

result<std::string> safetensors_prefix(const std::vector<tensor_entry>& tensors,
                                       const std::map<std::string, std::string>& metadata,
                                       std::uint64_t data_alignment_bytes) {
    constexpr std::uint64_t length_bytes = sizeof(std::uint64_t);
    nlohmann::ordered_json header = nlohmann::ordered_json::object();
    if (!metadata.empty())
        header["__metadata__"] = metadata;
    std::string text = header.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    text.pop_back(); // the closing brace: entries are appended one by one, since ordered_json searches linearly
    std::uint64_t offset = 0;
    for (const auto& tensor : tensors) {
        const std::uint64_t end = offset + tensor.bytes;
        const nlohmann::ordered_json entry = {
            {"dtype", tensor_type_name(tensor.type)}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
        if (text.size() > 1)
            text += ',';
        text += nlohmann::json(tensor.name).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + ":" +
                entry.dump();
        offset = end;
    }
    text += '}';
    text.append(round_up(length_bytes + text.size(), data_alignment_bytes) - length_bytes - text.size(), ' ');
    if (text.size() > safetensors_limits{}.header_bytes_max)
        return fail(errc::invalid_argument, "the header would be larger than any reader accepts");
    std::string prefix;
    for (std::size_t i = 0; i < length_bytes; ++i)
        prefix += static_cast<char>(text.size() >> (8 * i));
    return prefix + text;
}

result<void> write_safetensors(const std::filesystem::path& file, const std::vector<tensor_to_write>& tensors,
                               const std::map<std::string, std::string>& metadata) {
    if (auto checked = check_tensors(tensors); !checked)
        return checked;
    // Wide types first: every tensor is aligned to its elements although the format allows no padding.
    std::vector<const tensor_to_write*> in_order;
    for (const auto& tensor : tensors)
        in_order.push_back(&tensor);
    std::stable_sort(in_order.begin(), in_order.end(), [](const auto* a, const auto* b) {
        return tensor_type_bytes(a->type) > tensor_type_bytes(b->type);
    });
    std::vector<tensor_entry> entries;
    for (const auto* tensor : in_order)
        entries.push_back({tensor->name, tensor->type, tensor->shape, tensor->bytes.size()});
    const auto prefix = safetensors_prefix(entries, metadata);
    if (!prefix)
        return tl::unexpected(prefix.error());

    temporary_file part(file);
    bool written = part.is_open() && part.write(std::as_bytes(std::span(*prefix)));
    for (const auto* tensor : in_order)
        written = written && part.write(tensor->bytes);
    if (!written || !part.publish())
        return fail(errc::io_error, file.string() + " cannot be written: " + std::strerror(errno));
    return {};
}

} // namespace moira
