// FP8 checkpoints in DeepSeek's form, and experts that become FP8 on their way into a slot.
#include "core/base/float_formats.hpp"
#include "core/model/checkpoint_weight.hpp"
#include "core/model/fp8_quantizer.hpp"
#include "tests/execute/test_engine.hpp"
#include "tests/model/temporary_folder.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <doctest/doctest.h>
#include <memory>

using namespace moira;

namespace {

constexpr const char* model_names[] = {"deepseek_v3", "qwen3_moe"};

std::filesystem::path fp8_folder(const std::string& name) {
    return std::filesystem::path(MOIRA_TEST_DATA) / "fp8" / name;
}

std::vector<std::byte> bytes_of(const checkpoint& model, const tensor_location& tensor) {
    std::vector<std::byte> bytes(tensor.bytes);
    REQUIRE(model.read(tensor, bytes));
    return bytes;
}

/// From the format's definition.
float e4m3(std::uint8_t code) {
    const int exponent = code >> 3 & 15, mantissa = code & 7;
    const double size = exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8.0 + mantissa, exponent - 10);
    return static_cast<float>((code & 0x80) != 0 ? -size : size);
}

/// Element by element, in double.
std::vector<float> widened(const checkpoint& model, const tensor_location& weight, const tensor_location& scales) {
    const auto codes = bytes_of(model, weight);
    const auto raw_scales = bytes_of(model, scales);
    std::vector<float> values;
    for (std::int64_t row = 0; row < weight.shape[0]; ++row)
        for (std::int64_t column = 0; column < weight.shape[1]; ++column) {
            float scale = 0;
            const auto at = static_cast<std::size_t>(row / 128 * scales.shape[1] + column / 128);
            std::memcpy(&scale, raw_scales.data() + at * sizeof scale, sizeof scale);
            const auto code = codes[static_cast<std::size_t>(row * weight.shape[1] + column)];
            values.push_back(static_cast<float>(static_cast<double>(e4m3(static_cast<std::uint8_t>(code))) * scale));
        }
    return values;
}

/// A checkpoint made from another one, tensor by tensor.
class changed_model {
public:
    temporary_folder folder;

protected:
    explicit changed_model(const std::filesystem::path& source) : source_(*checkpoint::open(source)) {
        std::filesystem::copy_file(source / "config.json", folder.path() / "config.json");
    }

    void add(const std::string& name, tensor_type type, const std::vector<std::int64_t>& shape,
             std::span<const std::byte> bytes) {
        contents_.push_back(std::make_unique<std::vector<std::byte>>(bytes.begin(), bytes.end()));
        written_.push_back({name, type, shape, *contents_.back()});
    }

    void copy(const tensor_location& tensor) { add(tensor.name, tensor.type, tensor.shape, bytes_of(source_, tensor)); }

    void write() { REQUIRE(write_safetensors(folder.path() / "model.safetensors", written_)); }

    checkpoint source_;

private:
    std::vector<std::unique_ptr<std::vector<std::byte>>> contents_;
    std::vector<tensor_to_write> written_;
};

/// F32 in place of FP8: everywhere, or in one matrix.
class widened_model : public changed_model {
public:
    explicit widened_model(const std::filesystem::path& source, const std::string& only = "") : changed_model(source) {
        const auto chosen = [&](const std::string& name) { return only.empty() || name == only; };
        for (const auto& [name, tensor] : source_.tensors()) {
            const auto* scales = source_.find(name + "_scale_inv");
            const auto suffix = name.rfind("_scale_inv");
            if (suffix != std::string::npos && chosen(name.substr(0, suffix)))
                continue;
            if (!scales || !chosen(name)) {
                copy(tensor);
                continue;
            }
            const auto values = widened(source_, tensor, *scales);
            add(name, tensor_type::f32, tensor.shape, std::as_bytes(std::span(values)));
        }
        write();
    }
};

/// FP8 in place of BF16 in every routed expert.
class rounded_model : public changed_model {
public:
    explicit rounded_model(const std::filesystem::path& source) : changed_model(source) {
        for (const auto& [name, tensor] : source_.tensors()) {
            if (name.find(".mlp.experts.") == std::string::npos) {
                copy(tensor);
                continue;
            }
            const auto n = static_cast<std::uint32_t>(tensor.shape[0]), k = static_cast<std::uint32_t>(tensor.shape[1]);
            std::vector<std::byte> weight(fp8_weight_bytes(n, k)), scales(fp8_scale_bytes(n, k));
            REQUIRE(quantize_to_fp8(MOIRA_TYPE_BF16, bytes_of(source_, tensor), n, k, weight, scales));
            add(name, tensor_type::f8_e4m3, tensor.shape, weight);
            add(name + "_scale_inv", tensor_type::f32, scale_shape(n, k), scales);
        }
        write();
    }
};

/// One scale of one matrix is another number, the last one.
class damaged_scale : public changed_model {
public:
    damaged_scale(const std::filesystem::path& source, const std::string& matrix, float bad) : changed_model(source) {
        for (const auto& [name, tensor] : source_.tensors()) {
            auto bytes = bytes_of(source_, tensor);
            if (name == matrix + "_scale_inv")
                std::memcpy(bytes.data() + bytes.size() - sizeof bad, &bad, sizeof bad);
            add(name, tensor.type, tensor.shape, bytes);
        }
        write();
    }
};

double largest(const std::vector<float>& values) {
    double found = 0;
    for (const float value : values)
        found = std::max(found, std::abs(static_cast<double>(value)));
    return found;
}

/// Of the largest logit. In float32 only the order of additions differs (a partial sum per block of K); BF16 dot
/// products round activations to 8 bits, some tens of times on the way to a logit.
double tolerance(const std::string& plugin) {
    return plugin == "cpu_avx512" ? 0.02 : 5e-5;
}

/// Of the differences; of the values themselves where there is nothing to compare with.
double root_mean_square(const std::vector<float>& a, const std::vector<float>& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i)
        sum += std::pow(static_cast<double>(a[i]) - (b.empty() ? 0.0F : b[i]), 2);
    return std::sqrt(sum / static_cast<double>(a.size()));
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
    REQUIRE(a.size() == b.size());
    double largest = 0;
    for (std::size_t i = 0; i < a.size(); ++i)
        largest = std::max(largest, std::abs(static_cast<double>(a[i]) - b[i]));
    return largest;
}

/// The middle one of the rows' largest differences: where activations are rounded, a few rows choose another expert
/// at a near tie and have nothing to do with the expected ones from there on.
double median_row_difference(const std::vector<float>& a, const std::vector<float>& b, std::size_t rows) {
    REQUIRE(a.size() == b.size());
    std::vector<double> largest(rows, 0.0);
    const auto width = a.size() / rows;
    for (std::size_t i = 0; i < a.size(); ++i)
        largest[i / width] = std::max(largest[i / width], std::abs(static_cast<double>(a[i]) - b[i]));
    std::nth_element(largest.begin(), largest.begin() + static_cast<std::ptrdiff_t>(rows / 2), largest.end());
    return largest[rows / 2];
}

} // namespace

TEST_CASE("an FP8 checkpoint gives the logits of its weights in F32") {
    const auto ids = some_tokens(40);
    for (const std::string name : model_names) {
        const widened_model wide(fp8_folder(name));
        auto reference = test_engine::required(wide.folder.path(), {});
        const auto expected = logits_of(*reference.model, ids, 40);
        REQUIRE(expected);
        for (const auto& plugin : runnable_plugins()) {
            INFO(name, " on ", plugin);
            test_engine::wanted how;
            how.plugin = plugin;
            auto tested = test_engine::required(fp8_folder(name), how);
            CHECK(tested.model->lossy().empty());
            const auto found = logits_of(*tested.model, ids, 40);
            REQUIRE(found);
            const double bound = tolerance(plugin) * largest(*expected);
            CHECK(median_row_difference(*found, *expected, ids.size()) < bound);
            if (plugin != "cpu_avx512")
                CHECK(largest_difference(*found, *expected) < bound);
        }
    }
}

TEST_CASE("FP8 logits do not depend on steps, threads, budgets or the order in which experts arrive") {
    const auto ids = some_tokens(30);
    for (const std::string name : model_names)
        for (const auto& plugin : runnable_plugins()) {
            INFO(name, " on ", plugin);
            test_engine::wanted how;
            how.plugin = plugin;
            auto plain = test_engine::required(fp8_folder(name), how);
            const auto expected = logits_of(*plain.model, ids, 30);
            REQUIRE(expected);
            for (const std::uint32_t threads : {1U, 3U})
                for (const std::uint64_t slots : {0, 2, 5})
                    for (const std::int32_t chunk : {1, 7, 30}) {
                        CAPTURE(threads);
                        CAPTURE(slots);
                        CAPTURE(chunk);
                        how.options =
                            slots == 0 ? engine_options() : options_with_slots(slots, plain.model->slab_bytes());
                        how.options.loader_threads = threads - 1;
                        how.threads = threads;
                        auto tested = test_engine::required(fp8_folder(name), how);
                        const auto found = logits_of(*tested.model, ids, chunk);
                        REQUIRE_MESSAGE(found, found.error().message);
                        CHECK(same_bits(*found, *expected));
                        CHECK((tested.model->experts().statistics().evictions > 0) == (slots > 0));
                    }
        }
}

TEST_CASE(
    "experts that become FP8 when they are loaded are named, smaller, near the exact ones and the same everywhere") {
    const auto ids = some_tokens(30);
    for (const std::string name : model_names)
        for (const auto& plugin : runnable_plugins()) {
            INFO(name, " on ", plugin);
            test_engine::wanted how;
            how.plugin = plugin;
            auto exact = test_engine::required(golden_folder(name), how);
            how.options.precision = expert_precision::fp8;
            auto rounded = test_engine::required(golden_folder(name), how);
            const auto before = logits_of(*exact.model, ids, 30);
            const auto after = logits_of(*rounded.model, ids, 30);
            REQUIRE(before);
            REQUIRE(after);
            CHECK(exact.model->lossy().empty());
            CHECK(rounded.model->lossy() == std::vector<std::string>{"experts.precision=fp8"});
            CHECK(rounded.model->numerics_id() != exact.model->numerics_id());
            CHECK(rounded.model->numerics_id().starts_with(exact.model->numerics_id()));
            CHECK(rounded.model->slab_bytes() < exact.model->slab_bytes());
            CHECK(rounded.model->expert_source_bytes() == exact.model->expert_source_bytes());
            CHECK_FALSE(same_bits(*before, *after));
            CHECK(root_mean_square(*before, *after) < 0.2 * root_mean_square(*before, {}));
            for (const std::uint64_t slots : {4, 9}) { // evicted and quantised again
                how.options = options_with_slots(slots, rounded.model->slab_bytes());
                how.options.precision = expert_precision::fp8;
                auto tested = test_engine::required(golden_folder(name), how);
                CHECK(tested.model->experts().statistics().slots == slots);
                const auto found = logits_of(*tested.model, ids, 7);
                REQUIRE_MESSAGE(found, found.error().message);
                CHECK(same_bits(*found, *after));
                CHECK(tested.model->experts().statistics().evictions > 0);
            }
        }
}

TEST_CASE("experts rounded by the loader are those of a checkpoint that was rounded before") {
    for (const std::string name : model_names) {
        CAPTURE(name);
        const rounded_model written(golden_folder(name));
        const auto ids = some_tokens(20);
        test_engine::wanted how;
        auto in_file = test_engine::required(written.folder.path(), how);
        how.options.precision = expert_precision::fp8;
        auto in_loader = test_engine::required(golden_folder(name), how);
        const auto expected = logits_of(*in_file.model, ids, 20);
        const auto found = logits_of(*in_loader.model, ids, 20);
        REQUIRE(expected);
        REQUIRE(found);
        CHECK(same_bits(*found, *expected));
        CHECK(in_file.model->slab_bytes() == in_loader.model->slab_bytes());
    }
}

TEST_CASE("FP8 is never forced on experts that have it already") {
    test_engine::wanted how;
    how.options.precision = expert_precision::fp8;
    auto asked = test_engine::required(fp8_folder("qwen3_moe"), how);
    auto plain = test_engine::required(fp8_folder("qwen3_moe"), {});
    CHECK(asked.model->lossy().empty());
    CHECK(asked.model->numerics_id() == plain.model->numerics_id());
    const auto ids = some_tokens(9);
    CHECK(same_bits(*logits_of(*asked.model, ids, 9), *logits_of(*plain.model, ids, 9)));
}

TEST_CASE("a scale that is no number ends the load of what it belongs to, and names it") {
    for (const std::string tensor :
         {"model.layers.0.self_attn.o_proj.weight", "model.layers.1.mlp.experts.4.up_proj.weight",
          "model.layers.0.self_attn.kv_b_proj.weight"})
        for (const float bad : {-1.0F, INFINITY, NAN}) {
            const damaged_scale damaged(fp8_folder("deepseek_v3"), tensor, bad);
            auto opened = test_engine::open(damaged.folder.path(), {});
            const bool of_expert = tensor.find("experts") != std::string::npos;
            REQUIRE(opened.has_value() == of_expert);
            const auto& failure = of_expert ? logits_of(*opened->model, some_tokens(40), 40).error() : opened.error();
            CHECK(failure.code == errc::corrupt_file);
            CHECK(failure.message.find(of_expert ? "expert 4 of layer 1" : tensor) != std::string::npos);
        }
}

TEST_CASE("matrices of one feed-forward block in different types are refused, not read beyond their end") {
    for (const std::string tensor :
         {"model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.shared_experts.down_proj.weight",
          "model.layers.1.mlp.experts.2.gate_proj.weight"}) {
        const widened_model mixed(fp8_folder("deepseek_v3"), tensor);
        const auto opened = test_engine::open(mixed.folder.path(), {});
        REQUIRE_FALSE(opened);
        CHECK(opened.error().code == errc::invalid_config);
        CHECK(opened.error().message.find(tensor) != std::string::npos);
    }
}
