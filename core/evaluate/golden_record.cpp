#include "core/evaluate/golden.hpp"

#include "core/model/safetensors.hpp"

#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

namespace moira {

namespace {

/// A record of a few thousand rows of a large vocabulary; larger ones are not records.
constexpr std::uint64_t record_bytes_max = std::uint64_t{2} << 30;

/// bf16.json is a few lines per checkpoint.
constexpr std::uintmax_t limits_bytes_max = 1 << 20;

class record_reader {
public:
    record_reader(std::filesystem::path file, safetensors_header header)
        : file_(std::move(file)), stream_(file_, std::ios::binary), header_(std::move(header)) {}

    const safetensors_header& header() const noexcept { return header_; }

    /// The tensor's values, or nothing when it is not there.
    template <class T>
    result<std::vector<T>> values(const std::string& name, tensor_type type,
                                  std::vector<std::int64_t>* shape = nullptr) {
        const auto found = header_.tensors.find(name);
        if (found == header_.tensors.end())
            return std::vector<T>{};
        const auto& tensor = found->second;
        if (tensor.type != type)
            return fail(errc::unsupported, file_.string() + ": tensor " + name + " is " +
                                               std::string(tensor_type_name(tensor.type)) + ", expected " +
                                               std::string(tensor_type_name(type)));
        if (tensor.bytes > record_bytes_max)
            return fail(errc::corrupt_file, file_.string() + ": tensor " + name + " is too large for a record");
        std::vector<T> read(tensor.bytes / sizeof(T));
        stream_.seekg(static_cast<std::streamoff>(tensor.offset));
        stream_.read(reinterpret_cast<char*>(read.data()), static_cast<std::streamsize>(tensor.bytes));
        if (!stream_)
            return fail(errc::io_error, file_.string() + ": reading tensor " + name + " failed");
        if (shape)
            *shape = tensor.shape;
        return read;
    }

private:
    std::filesystem::path file_;
    std::ifstream stream_;
    safetensors_header header_;
};

/// Reads a [T, width] tensor and holds it to `rows` and to one width.
template <class T>
result<std::vector<T>> matrix(record_reader& reader, const std::string& name, tensor_type type, std::size_t rows,
                              std::int32_t& width) {
    std::vector<std::int64_t> shape;
    auto read = reader.values<T>(name, type, &shape);
    if (!read || read->empty())
        return read;
    const bool fits = shape.size() == 2 && shape[0] == static_cast<std::int64_t>(rows) && shape[1] > 0 &&
                      shape[1] <= 1 << 24 && (width == 0 || width == shape[1]);
    if (!fits)
        return fail(errc::corrupt_file, "golden.safetensors: tensor " + name + " has an unexpected shape");
    width = static_cast<std::int32_t>(shape[1]);
    return read;
}

/// Reads a [T] tensor of token ids.
result<std::vector<token_id>> id_list(record_reader& reader, const std::string& name) {
    std::vector<std::int64_t> shape;
    auto read = reader.values<token_id>(name, tensor_type::i32, &shape);
    if (read && !read->empty() && shape.size() != 1)
        return fail(errc::corrupt_file, "golden.safetensors: tensor " + name + " is not a list");
    return read;
}

/// The N of "hidden.N".
std::optional<std::int32_t> number_after(const std::string& name, std::string_view prefix) {
    if (name.size() <= prefix.size() || name.size() > prefix.size() + 6 || !name.starts_with(prefix))
        return std::nullopt;
    std::int32_t number = 0;
    for (const char c : name.substr(prefix.size())) {
        if (c < '0' || c > '9')
            return std::nullopt;
        number = number * 10 + (c - '0');
    }
    return number;
}

result<void> read_layers(record_reader& reader, golden_record& record) {
    for (const auto& [name, tensor] : reader.header().tensors) {
        if (const auto layer = number_after(name, "hidden.")) {
            auto values = matrix<float>(reader, name, tensor_type::f32, record.input_ids.size(), record.hidden_width);
            if (!values)
                return tl::unexpected(values.error());
            record.hidden[*layer] = std::move(*values);
        } else if (const auto routed = number_after(name, "routing.")) {
            auto values = matrix<std::int32_t>(reader, name, tensor_type::i32, record.input_ids.size(), record.top_k);
            if (!values)
                return tl::unexpected(values.error());
            record.routing[*routed] = std::move(*values);
        }
    }
    return {};
}

} // namespace

result<golden_record> read_golden(const std::filesystem::path& folder) {
    const auto file = folder / "golden.safetensors";
    auto header = read_safetensors_header(file);
    if (!header)
        return tl::unexpected(header.error());
    record_reader reader(file, std::move(*header));
    golden_record record;
    auto ids = id_list(reader, "input_ids");
    if (!ids)
        return tl::unexpected(ids.error());
    record.input_ids = std::move(*ids);
    if (record.input_ids.empty())
        return fail(errc::corrupt_file, file.string() + ": there is no tensor input_ids");
    auto logits = matrix<float>(reader, "logits", tensor_type::f32, record.input_ids.size(), record.vocabulary);
    if (!logits)
        return tl::unexpected(logits.error());
    record.logits = std::move(*logits);
    auto greedy = id_list(reader, "greedy_ids");
    if (!greedy)
        return tl::unexpected(greedy.error());
    record.greedy_ids = std::move(*greedy);
    auto greedy_logits =
        matrix<float>(reader, "greedy_logits", tensor_type::f32, record.greedy_ids.size(), record.vocabulary);
    if (!greedy_logits)
        return tl::unexpected(greedy_logits.error());
    record.greedy_logits = std::move(*greedy_logits);
    auto mtp_logits =
        matrix<float>(reader, "mtp_logits", tensor_type::f32, record.input_ids.size() - 1, record.vocabulary);
    if (!mtp_logits)
        return tl::unexpected(mtp_logits.error());
    record.mtp_logits = std::move(*mtp_logits);
    if (auto done = read_layers(reader, record); !done)
        return tl::unexpected(done.error());
    for (const auto& [name, is_absent] : {std::pair{"logits", record.logits.empty()},
                                          {"hidden.N", record.hidden.empty()},
                                          {"routing.L", record.routing.empty()},
                                          {"greedy_ids", record.greedy_ids.empty()},
                                          {"greedy_logits", record.greedy_logits.empty()}})
        if (is_absent)
            record.absent.emplace_back(name);
    return record;
}

result<std::optional<golden_limits>> read_bf16_limits(const std::filesystem::path& folder) {
    const auto whole = std::filesystem::weakly_canonical(folder);
    for (const auto& file : {whole / "bf16.json", whole.parent_path() / "bf16.json"}) {
        std::error_code failed;
        const auto bytes = std::filesystem::file_size(file, failed);
        if (failed || bytes > limits_bytes_max)
            continue;
        std::ifstream stream(file);
        const auto json = nlohmann::json::parse(stream, nullptr, false);
        const auto name = whole.filename().string();
        if (!json.is_object() || !json.contains(name))
            continue;
        const auto& row = json[name];
        // Nothing above these says anything about a model.
        constexpr double error_max = 1e6, rows_max = 1e6;
        const auto number = [&](const char* key, double maximum) -> std::optional<double> {
            if (!row.is_object() || !row.contains(key) || !row[key].is_number())
                return std::nullopt;
            const auto value = row[key].get<double>();
            return value >= 0 && value <= maximum ? std::optional(value) : std::nullopt;
        };
        const auto median = number("median_row_error", error_max);
        const auto largest = number("max_error_same_route", error_max);
        const auto rerouted = number("rows_rerouted", rows_max);
        if (!median || !largest || !rerouted || *rerouted != std::floor(*rerouted))
            return fail(errc::corrupt_file, file.string() + ": " + name + " lacks one of its three numbers");
        golden_limits limits;
        limits.median_row_error_max = *median;
        limits.max_abs_error = 1.5 * *largest;
        limits.rows_rerouted_max = static_cast<std::int32_t>(*rerouted) + 2;
        limits.greedy_margin_min = 2 * limits.max_abs_error;
        return limits;
    }
    return std::nullopt;
}

} // namespace moira
