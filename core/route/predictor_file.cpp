#include "core/route/predictor_file.hpp"

#include "core/base/checked.hpp"
#include "core/model/safetensors.hpp"

#include <charconv>
#include <cmath>
#include <map>
#include <span>
#include <vector>

namespace moira {
namespace {

constexpr std::string_view format_name = "moira_predictor", format_version = "1";

/// Metadata that are numbers stay within this: more than any dimension of a model.
constexpr std::int64_t number_max = 1 << 24;

using metadata_map = std::map<std::string, std::string, std::less<>>;

std::string head_name(std::int32_t ahead, std::int32_t from, const char* part) {
    return std::to_string(ahead) + "." + std::to_string(from) + "." + part;
}

std::string history_name(std::int32_t layer) {
    return "history." + std::to_string(layer);
}

// ---- writing -------------------------------------------------------------------------------------------------------

void add_tensor(std::vector<tensor_to_write>& tensors, std::string name, std::vector<std::int64_t> shape,
                std::span<const float> values) {
    tensors.push_back({std::move(name), tensor_type::f32, std::move(shape), std::as_bytes(values)});
}

void add_heads(const linear_heads& all, std::vector<tensor_to_write>& tensors) {
    for (std::int32_t ahead = 1; ahead <= heads_ahead_max; ++ahead)
        for (std::int32_t from = 0; from + ahead < all.layers; ++from) {
            const auto& head = *all.find(from, ahead);
            add_tensor(tensors, head_name(ahead, from, "up"), {all.experts, all.rank}, head.up);
            add_tensor(tensors, head_name(ahead, from, "down"), {all.rank, all.hidden}, head.down);
            add_tensor(tensors, head_name(ahead, from, "bias"), {all.experts}, head.bias);
        }
}

void add_history(const history_model& model, std::vector<tensor_to_write>& tensors, metadata_map& metadata) {
    for (std::int32_t layer = 0; layer < model.shape().layers; ++layer)
        add_tensor(tensors, history_name(layer), {static_cast<std::int64_t>(model.features()), model.shape().experts},
                   model.weights(layer));
    metadata["back"] = std::to_string(model.looks_at().back);
    metadata["ahead"] = std::to_string(model.looks_at().ahead);
}

// ---- reading -------------------------------------------------------------------------------------------------------

/// One file being read; errors name it.
class predictor_reader {
public:
    predictor_reader(const std::filesystem::path& path, read_only_file file, safetensors_header header)
        : path_(path), file_(std::move(file)), header_(std::move(header)) {}

    result<trained_predictor> read();

private:
    tl::unexpected<error> corrupt(const std::string& what) const {
        return fail(errc::corrupt_file, path_.string() + ": " + what + ": train the predictor again");
    }
    std::string text(std::string_view key) const {
        const auto found = header_.metadata.find(key);
        return found == header_.metadata.end() ? std::string() : found->second;
    }
    result<std::int32_t> number(std::string_view key) const;
    result<void> read_subject(predictor_subject& subject) const;
    result<void> read_heads(trained_predictor& into) const;
    result<void> read_history(trained_predictor& into) const;
    result<std::vector<float>> floats(const std::string& name, const std::vector<std::int64_t>& shape) const;

    std::filesystem::path path_;
    read_only_file file_;
    safetensors_header header_;
};

result<std::int32_t> predictor_reader::number(std::string_view key) const {
    const auto value = text(key);
    std::int64_t parsed = -1;
    const auto [end, code] = std::from_chars(value.data(), value.data() + value.size(), parsed);
    if (code != std::errc{} || end != value.data() + value.size() || parsed < 0 || parsed > number_max)
        return corrupt("metadata " + std::string(key) + " is \"" + value.substr(0, 32) +
                       "\", expected a number up to " + std::to_string(number_max));
    return static_cast<std::int32_t>(parsed);
}

result<void> predictor_reader::read_subject(predictor_subject& subject) const {
    // Shown in messages: a hostile name must not fill a screen.
    constexpr std::size_t name_bytes_max = 128;
    subject.model = text("model").substr(0, name_bytes_max);
    subject.fingerprint = text("fingerprint").substr(0, name_bytes_max);
    for (const auto& [key, value] : {std::pair{"layers", &subject.layers}, std::pair{"experts", &subject.experts},
                                     std::pair{"top_k", &subject.top_k}, std::pair{"hidden", &subject.hidden}}) {
        auto read = number(key);
        if (!read)
            return tl::unexpected(read.error());
        *value = *read;
    }
    if (subject.layers < 1 || subject.experts < 1 || subject.experts >= route_unknown || subject.top_k < 1 ||
        subject.top_k > subject.experts)
        return corrupt("layers, experts or top_k are of no model");
    return {};
}

/// Shape and size were checked against the file when its header was read, so allocating is safe.
result<std::vector<float>> predictor_reader::floats(const std::string& name,
                                                    const std::vector<std::int64_t>& shape) const {
    const auto found = header_.tensors.find(name);
    if (found == header_.tensors.end())
        return corrupt("tensor " + name + " is missing");
    if (found->second.type != tensor_type::f32 || found->second.shape != shape)
        return corrupt("tensor " + name + " has another type or shape than the metadata say");
    std::vector<float> values(found->second.elements());
    if (auto read = file_.read_at(found->second.offset, std::as_writable_bytes(std::span(values))); !read)
        return tl::unexpected(read.error());
    for (const float value : values)
        if (!std::isfinite(value))
            return corrupt("tensor " + name + " holds a value that is not finite");
    return values;
}

result<void> predictor_reader::read_heads(trained_predictor& into) const {
    auto rank = number("rank");
    if (!rank)
        return tl::unexpected(rank.error());
    linear_heads all{into.subject.layers, into.subject.experts, into.subject.hidden, *rank, {}};
    if (all.rank < 1 || all.hidden < 1 || all.rank > std::min(all.experts, all.hidden))
        return corrupt("rank or hidden are out of range");
    // Every head is in the file, so their number is bounded by its size before anything is allocated for them.
    if (static_cast<std::size_t>(all.layers) > header_.tensors.size())
        return corrupt("there are fewer tensors than layers");
    all.heads.resize(static_cast<std::size_t>(heads_ahead_max) * static_cast<std::size_t>(all.layers));
    for (std::int32_t ahead = 1; ahead <= heads_ahead_max; ++ahead)
        for (std::int32_t from = 0; from + ahead < all.layers; ++from) {
            auto& head = all.heads[static_cast<std::size_t>(ahead - 1) * static_cast<std::size_t>(all.layers) +
                                   static_cast<std::size_t>(from)];
            auto up = floats(head_name(ahead, from, "up"), {all.experts, all.rank});
            if (!up)
                return tl::unexpected(up.error());
            auto down = floats(head_name(ahead, from, "down"), {all.rank, all.hidden});
            if (!down)
                return tl::unexpected(down.error());
            auto bias = floats(head_name(ahead, from, "bias"), {all.experts});
            if (!bias)
                return tl::unexpected(bias.error());
            head = {std::move(*up), std::move(*down), std::move(*bias)};
        }
    into.heads = std::move(all);
    return {};
}

result<void> predictor_reader::read_history(trained_predictor& into) const {
    auto back = number("back"), ahead = number("ahead");
    if (!back || !ahead)
        return tl::unexpected(back ? ahead.error() : back.error());
    // All layers are in the file, so its size bounds what the model takes.
    if (static_cast<std::size_t>(into.subject.layers) > header_.tensors.size())
        return corrupt("there are fewer tensors than layers");
    auto made = history_model::create({into.subject.layers, into.subject.experts, into.subject.top_k});
    if (!made)
        return corrupt(made.error().message);
    auto& model = **made;
    if (*back != model.looks_at().back || *ahead != model.looks_at().ahead)
        return corrupt("it looks back " + std::to_string(*back) + " and ahead " + std::to_string(*ahead) +
                       " layers, this version " + std::to_string(model.looks_at().back) + " and " +
                       std::to_string(model.looks_at().ahead));
    for (std::int32_t layer = 0; layer < into.subject.layers; ++layer) {
        auto weights = floats(history_name(layer), {static_cast<std::int64_t>(model.features()), into.subject.experts});
        if (!weights)
            return tl::unexpected(weights.error());
        model.assign(layer, *weights, std::max(into.trained_tokens, history_rows_least));
    }
    into.history = std::move(*made);
    return {};
}

result<trained_predictor> predictor_reader::read() {
    if (text("format") != format_name)
        return corrupt("it is no predictor of `moira predictor train`");
    if (text("version") != format_version)
        return fail(errc::unsupported, path_.string() + ": a predictor of version \"" + text("version").substr(0, 32) +
                                           "\", this build reads " + std::string(format_version));
    trained_predictor made;
    if (auto done = read_subject(made.subject); !done)
        return tl::unexpected(done.error());
    const auto tokens = text("trained_tokens");
    std::from_chars(tokens.data(), tokens.data() + tokens.size(), made.trained_tokens);
    const auto kind = text("kind");
    if (kind != "heads" && kind != "history")
        return corrupt("metadata kind is \"" + kind.substr(0, 32) + "\", expected heads or history");
    if (auto done = kind == "heads" ? read_heads(made) : read_history(made); !done)
        return tl::unexpected(done.error());
    return made;
}

std::string described(const predictor_subject& subject) {
    return (subject.model.empty() ? std::string("a model") : subject.model) + " (" + std::to_string(subject.layers) +
           " layers that route, " + std::to_string(subject.experts) + " experts, top " + std::to_string(subject.top_k) +
           ", hidden " + (subject.hidden > 0 ? std::to_string(subject.hidden) : std::string("not told")) +
           (subject.fingerprint.empty() ? "" : ", routers " + subject.fingerprint) + ")";
}

} // namespace

predictor_subject subject_of(const route_trace& trace) {
    return {"a recording",
            "",
            static_cast<std::int32_t>(trace.layers),
            static_cast<std::int32_t>(trace.experts),
            static_cast<std::int32_t>(trace.top_k),
            static_cast<std::int32_t>(trace.hidden)};
}

result<void> write_predictor(const std::filesystem::path& path, const trained_predictor& trained) {
    std::vector<tensor_to_write> tensors;
    metadata_map metadata{{"format", std::string(format_name)},
                          {"version", std::string(format_version)},
                          {"kind", trained.kind()},
                          {"model", trained.subject.model},
                          {"fingerprint", trained.subject.fingerprint},
                          {"layers", std::to_string(trained.subject.layers)},
                          {"experts", std::to_string(trained.subject.experts)},
                          {"top_k", std::to_string(trained.subject.top_k)},
                          {"hidden", std::to_string(trained.subject.hidden)},
                          {"trained_tokens", std::to_string(trained.trained_tokens)}};
    if (trained.heads) {
        metadata["rank"] = std::to_string(trained.heads->rank);
        add_heads(*trained.heads, tensors);
    } else {
        add_history(*trained.history, tensors, metadata);
    }
    return write_safetensors(path, tensors, {metadata.begin(), metadata.end()});
}

result<trained_predictor> read_predictor(const std::filesystem::path& path) {
    auto file = read_only_file::open(path);
    if (!file)
        return tl::unexpected(file.error());
    if (file->bytes() > predictor_file_bytes_max)
        return fail(errc::corrupt_file, path.string() + ": " + std::to_string(file->bytes()) +
                                            " bytes are more than any predictor has (" +
                                            std::to_string(predictor_file_bytes_max) + ")");
    auto header = read_safetensors_header(*file);
    if (!header)
        return tl::unexpected(header.error());
    return predictor_reader(path, std::move(*file), std::move(*header)).read();
}

result<void> check_subject(const std::filesystem::path& path, const predictor_subject& subject,
                           const predictor_subject& model) {
    const bool same_shape = subject.layers == model.layers && subject.experts == model.experts &&
                            subject.top_k == model.top_k &&
                            (subject.hidden == model.hidden || subject.hidden == 0 || model.hidden == 0);
    const bool same_routers =
        subject.fingerprint.empty() || model.fingerprint.empty() || subject.fingerprint == model.fingerprint;
    if (same_shape && same_routers)
        return {};
    return fail(errc::invalid_config, path.string() + ": this predictor was trained for " + described(subject) +
                                          ", found " + described(model) +
                                          ": train one for this model, or set experts.predictor = gate");
}

} // namespace moira
