#include "core/base/checked.hpp"
#include "core/base/read_only_file.hpp"
#include "core/model/safetensors.hpp"
#include "core/model/shown_name.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

namespace moira {

namespace {

constexpr std::size_t length_bytes = 8; ///< the header's length, little-endian, opens the file

struct type_row {
    tensor_type type;
    std::string_view name;
    std::size_t bytes;
};

constexpr std::array types{
    type_row{tensor_type::f32, "F32", 4},         type_row{tensor_type::f16, "F16", 2},
    type_row{tensor_type::bf16, "BF16", 2},       type_row{tensor_type::f8_e4m3, "F8_E4M3", 1},
    type_row{tensor_type::f8_e5m2, "F8_E5M2", 1}, type_row{tensor_type::f64, "F64", 8},
    type_row{tensor_type::i64, "I64", 8},         type_row{tensor_type::i32, "I32", 4},
    type_row{tensor_type::i16, "I16", 2},         type_row{tensor_type::i8, "I8", 1},
    type_row{tensor_type::u8, "U8", 1},           type_row{tensor_type::boolean, "BOOL", 1},
};

const type_row* find_type(tensor_type type) noexcept {
    const auto row = std::find_if(types.begin(), types.end(), [&](const type_row& r) { return r.type == type; });
    return row == types.end() ? nullptr : &*row;
}

/// Receives the header's JSON piece by piece: {name: {"dtype": text, "shape": [n...], "data_offsets": [a, b]}, ...,
/// "__metadata__": {text: text}}. Anything else ends the parse with a reason. Unlike a document tree it sees names that
/// occur twice, never nests, and costs memory only for tensors.
class header_events {
public:
    header_events(safetensors_header& header, const safetensors_limits& limits) : header_(header), limits_(limits) {}

    bool start_object(std::size_t) {
        switch (place_) {
        case place::before:
            place_ = place::top;
            return true;
        case place::top_value:
            if (key_ == "__metadata__") {
                place_ = place::metadata;
                return take_once(has_metadata_, "__metadata__");
            }
            return start_tensor();
        default:
            return unexpected("an object");
        }
    }

    bool end_object() {
        switch (place_) {
        case place::top:
            place_ = place::after;
            return true;
        case place::metadata:
            place_ = place::top;
            return true;
        case place::tensor:
            place_ = place::top;
            return end_tensor();
        default:
            return unexpected("the end of an object");
        }
    }

    bool key(std::string& name) {
        if (place_ == place::top) {
            key_ = std::move(name);
            place_ = place::top_value;
            return true;
        }
        if (place_ == place::metadata) {
            metadata_key_ = std::move(name);
            place_ = place::metadata_value;
            return true;
        }
        if (name == "dtype")
            return take_once(has_type_, name) && move_to(place::type);
        if (name == "shape")
            return take_once(has_shape_, name) && move_to(place::shape_start);
        if (name == "data_offsets")
            return take_once(has_offsets_, name) && move_to(place::offsets_start);
        return refuse(errc::corrupt_file, "tensor " + shown_name(key_) + " has an unknown field " + shown_name(name));
    }

    bool string(std::string& text) {
        if (place_ == place::metadata_value) {
            place_ = place::metadata;
            if (!header_.metadata.emplace(metadata_key_, std::move(text)).second)
                return refuse(errc::corrupt_file, "metadata key " + shown_name(metadata_key_) + " occurs twice");
            return true;
        }
        if (place_ != place::type)
            return unexpected("a string");
        const auto row = std::find_if(types.begin(), types.end(), [&](const type_row& r) { return r.name == text; });
        if (row == types.end())
            return refuse(errc::unsupported,
                          "tensor " + shown_name(key_) + " has the unknown dtype " + shown_name(text));
        tensor_.type = row->type;
        return move_to(place::tensor);
    }

    bool start_array(std::size_t) {
        if (place_ == place::shape_start)
            return move_to(place::shape);
        if (place_ == place::offsets_start)
            return move_to(place::offsets);
        return unexpected("an array");
    }

    bool end_array() {
        if (place_ == place::offsets && offsets_.size() != 2)
            return refuse(errc::corrupt_file, "tensor " + shown_name(key_) + " has " + std::to_string(offsets_.size()) +
                                                  " data_offsets; expected 2");
        return move_to(place::tensor);
    }

    bool number_unsigned(std::uint64_t value) {
        if (place_ == place::shape) {
            if (tensor_.shape.size() == limits_.dimensions_max)
                return refuse(errc::corrupt_file, "tensor " + shown_name(key_) + " has more than " +
                                                      std::to_string(limits_.dimensions_max) + " dimensions");
            if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
                return refuse(errc::corrupt_file, "tensor " + shown_name(key_) + " has a dimension beyond 2^63");
            tensor_.shape.push_back(static_cast<std::int64_t>(value));
            return true;
        }
        if (place_ == place::offsets) {
            if (offsets_.size() == 2)
                return refuse(errc::corrupt_file, "tensor " + shown_name(key_) + " has more than 2 data_offsets");
            offsets_.push_back(value);
            return true;
        }
        return unexpected("a number");
    }

    bool number_integer(std::int64_t) { return unexpected("a negative number"); }
    bool number_float(double, const std::string&) { return unexpected("a fraction"); }
    bool boolean(bool) { return unexpected("a boolean"); }
    bool null() { return unexpected("null"); }
    bool binary(nlohmann::json::binary_t&) { return unexpected("binary data"); }

    bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) {
        return refuse(errc::corrupt_file, "the header is not valid JSON near byte " + std::to_string(position));
    }

    const std::optional<error>& failure() const { return failure_; }

private:
    enum class place {
        before,
        top,
        top_value,
        metadata,
        metadata_value,
        tensor,
        type,
        shape_start,
        shape,
        offsets_start,
        offsets,
        after
    };

    bool start_tensor() {
        if (header_.tensors.size() == limits_.tensors_max)
            return refuse(errc::corrupt_file, "more than " + std::to_string(limits_.tensors_max) + " tensors");
        tensor_ = {};
        offsets_.clear();
        has_type_ = has_shape_ = has_offsets_ = false;
        return move_to(place::tensor);
    }

    /// Offsets stay relative to the data here; the range check makes them absolute.
    bool end_tensor() {
        if (!has_type_ || !has_shape_ || !has_offsets_)
            return refuse(errc::corrupt_file, "tensor " + shown_name(key_) + " lacks dtype, shape or data_offsets");
        if (offsets_[1] < offsets_[0])
            return refuse(errc::corrupt_file, "tensor " + shown_name(key_) + " ends before it begins");
        tensor_.name = key_;
        tensor_.offset = offsets_[0];
        tensor_.bytes = offsets_[1] - offsets_[0];
        if (!header_.tensors.emplace(key_, std::move(tensor_)).second)
            return refuse(errc::corrupt_file, "tensor " + shown_name(key_) + " occurs twice");
        return true;
    }

    bool take_once(bool& seen, std::string_view field) {
        if (std::exchange(seen, true))
            return refuse(errc::corrupt_file, shown_name(field) + " occurs twice near tensor " + shown_name(key_));
        return true;
    }

    bool move_to(place next) {
        place_ = next;
        return true;
    }

    bool unexpected(std::string_view what) {
        return refuse(errc::corrupt_file,
                      std::string(what) + " where the header's format has none, near " + shown_name(key_));
    }

    bool refuse(errc code, std::string message) {
        if (!failure_)
            failure_ = error{code, std::move(message)};
        return false;
    }

    safetensors_header& header_;
    const safetensors_limits& limits_;
    place place_ = place::before;
    std::string key_, metadata_key_;
    tensor_location tensor_;
    std::vector<std::uint64_t> offsets_;
    bool has_metadata_ = false, has_type_ = false, has_shape_ = false, has_offsets_ = false;
    std::optional<error> failure_;
};

/// The header's length, once it is known to lie inside the file and the limit.
result<std::uint64_t> header_length(std::span<const std::byte> first, std::uint64_t file_bytes, std::string_view name,
                                    const safetensors_limits& limits) {
    if (file_bytes < length_bytes || first.size() < length_bytes)
        return fail(errc::corrupt_file, std::string(name) + " has " + std::to_string(file_bytes) +
                                            " bytes: too short for a safetensors file");
    std::uint64_t length = 0;
    for (std::size_t i = 0; i < length_bytes; ++i)
        length |= std::to_integer<std::uint64_t>(first[i]) << (8 * i);
    if (length > file_bytes - length_bytes)
        return fail(errc::corrupt_file, std::string(name) + " claims a header of " + std::to_string(length) +
                                            " bytes in a file of " + std::to_string(file_bytes) +
                                            ": truncated, or not a safetensors file");
    if (length > limits.header_bytes_max)
        return fail(errc::corrupt_file, std::string(name) + " claims a header of " + std::to_string(length) +
                                            " bytes; at most " + std::to_string(limits.header_bytes_max) + " are read");
    return length;
}

std::optional<std::uint64_t> claimed_bytes(const tensor_location& tensor) {
    std::optional<std::uint64_t> bytes = tensor_type_bytes(tensor.type);
    for (const auto dimension : tensor.shape)
        if (bytes)
            bytes = checked_mul(*bytes, static_cast<std::uint64_t>(dimension));
    return bytes;
}

/// Every tensor has the bytes of its shape, and together they tile the data: no overlap, no hole, nothing behind the
/// end. Turns offsets into the data into offsets into the file.
result<void> place_tensors(safetensors_header& header, std::uint64_t data_begin, std::uint64_t file_bytes,
                           std::string_view name) {
    std::vector<tensor_location*> in_order;
    in_order.reserve(header.tensors.size());
    for (auto& [tensor_name, tensor] : header.tensors) {
        if (claimed_bytes(tensor) != tensor.bytes)
            return fail(errc::corrupt_file, std::string(name) + ": the data_offsets of tensor " +
                                                shown_name(tensor_name) + " do not match its shape and dtype");
        in_order.push_back(&tensor);
    }
    std::sort(in_order.begin(), in_order.end(), [](const auto* a, const auto* b) {
        return a->offset != b->offset ? a->offset < b->offset : a->bytes < b->bytes;
    });
    const std::uint64_t data_bytes = file_bytes - data_begin;
    std::uint64_t end = 0;
    for (auto* tensor : in_order) {
        if (tensor->offset != end)
            return fail(errc::corrupt_file, std::string(name) + ": tensor " + shown_name(tensor->name) + " begins at " +
                                                std::to_string(tensor->offset) + " where the one before it ends at " +
                                                std::to_string(end) + ": they overlap or leave a hole");
        if (tensor->bytes > data_bytes - end)
            return fail(errc::corrupt_file, std::string(name) + ": tensor " + shown_name(tensor->name) +
                                                " lies beyond the end of the file: truncated?");
        end += tensor->bytes;
        tensor->offset += data_begin;
    }
    if (end != data_bytes)
        return fail(errc::corrupt_file,
                    std::string(name) + " has " + std::to_string(data_bytes - end) + " bytes that belong to no tensor");
    return {};
}

} // namespace

std::string_view tensor_type_name(tensor_type type) noexcept {
    const auto* row = find_type(type);
    return row ? row->name : "?";
}

std::size_t tensor_type_bytes(tensor_type type) noexcept {
    const auto* row = find_type(type);
    return row ? row->bytes : 0;
}

std::uint64_t tensor_location::elements() const noexcept {
    std::uint64_t count = 1;
    for (const auto dimension : shape)
        count *= static_cast<std::uint64_t>(dimension);
    return count;
}

result<safetensors_header> parse_safetensors_header(std::span<const std::byte> prefix, std::uint64_t file_bytes,
                                                    std::string_view name, const safetensors_limits& limits) {
    const auto length = header_length(prefix, file_bytes, name, limits);
    if (!length)
        return tl::unexpected(length.error());
    if (prefix.size() - length_bytes < *length)
        return fail(errc::corrupt_file, std::string(name) + ": the header is cut short");
    const auto text = prefix.subspan(length_bytes, static_cast<std::size_t>(*length));
    const auto* first = reinterpret_cast<const char*>(text.data());
    safetensors_header header;
    header_events events(header, limits);
    // The format wants the object at once: other readers refuse a byte order mark or leading space.
    const bool parsed =
        !text.empty() && *first == '{' && nlohmann::json::sax_parse(first, first + text.size(), &events);
    if (events.failure())
        return fail(events.failure()->code, std::string(name) + ": " + events.failure()->message);
    if (!parsed)
        return fail(errc::corrupt_file, std::string(name) + ": the header is not a JSON object");
    header.data_begin = length_bytes + *length;
    if (auto placed = place_tensors(header, header.data_begin, file_bytes, name); !placed)
        return tl::unexpected(placed.error());
    return header;
}

result<safetensors_header> read_safetensors_header(const std::filesystem::path& file,
                                                   const safetensors_limits& limits) {
    auto opened = read_only_file::open(file);
    if (!opened)
        return tl::unexpected(opened.error());
    return read_safetensors_header(*opened, limits);
}

result<safetensors_header> read_safetensors_header(const read_only_file& file, const safetensors_limits& limits) {
    std::array<std::byte, length_bytes> first{};
    const auto name = file.path().string();
    if (file.bytes() >= length_bytes)
        if (auto read = file.read_at(0, first); !read)
            return tl::unexpected(read.error());
    const auto length = header_length(first, file.bytes(), name, limits);
    if (!length)
        return tl::unexpected(length.error());
    std::vector<std::byte> prefix(length_bytes + static_cast<std::size_t>(*length));
    if (auto read = file.read_at(0, prefix); !read)
        return tl::unexpected(read.error());
    return parse_safetensors_header(prefix, file.bytes(), name, limits);
}

} // namespace moira
