// FP8 checkpoints in DeepSeek's form, and experts that become FP8 on their way into a slot.
#include "core/base/float_formats.hpp"
#include "core/model/fp8_quantizer.hpp"
#include "core/model/stored_weight.hpp"
#include "tests/execute/test_engine.hpp"
#include "tests/model/temporary_folder.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <doctest/doctest.h>
#include <fstream>

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

/// The same model with F32 in place of FP8.
class widened_model {
public:
    explicit widened_model(const std::filesystem::path& source) {
        std::filesystem::copy_file(source / "config.json", folder.path() / "config.json");
        const auto model = checkpoint::open(source);
        REQUIRE(model);
        std::vector<std::vector<std::byte>> contents;
        contents.reserve(model->tensors().size());
        std::vector<tensor_to_write> written;
        for (const auto& [name, tensor] : model->tensors()) {
            if (name.ends_with("_scale_inv"))
                continue;
            auto type = tensor.type;
            if (const auto* scales = model->find(name + "_scale_inv")) {
                type = tensor_type::f32;
                const auto values = widened(*model, tensor, *scales);
                const auto bytes = std::as_bytes(std::span(values));
                contents.emplace_back(bytes.begin(), bytes.end());
            } else {
                contents.push_back(bytes_of(*model, tensor));
            }
            written.push_back({name, type, tensor.shape, contents.back()});
        }
        REQUIRE(write_safetensors(folder.path() / "model.safetensors", written));
    }

    temporary_folder folder;
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

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
    REQUIRE(a.size() == b.size());
    double largest = 0;
    for (std::size_t i = 0; i < a.size(); ++i)
        largest = std::max(largest, std::abs(static_cast<double>(a[i]) - b[i]));
    return largest;
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
            CHECK(largest_difference(*found, *expected) < tolerance(plugin) * largest(*expected));
        }
    }
}
