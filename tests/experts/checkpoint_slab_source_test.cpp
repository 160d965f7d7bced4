#include "core/experts/checkpoint_slab_source.hpp"
#include "core/experts/expert_store.hpp"
#include "core/model/checkpoint_weight.hpp"
#include "core/model/fp8_quantizer.hpp"
#include "tests/experts/fake_slab_source.hpp"
#include "tests/experts/temporary_folder.hpp"

#include <array>
#include <cstdio>
#include <cstring>
#include <doctest/doctest.h>
#include <fstream>

using namespace moira;

namespace {

constexpr std::int64_t hidden = 48, inner = 40, experts = 5;
constexpr std::uint64_t matrix_bytes = hidden * inner * 2;

std::uint64_t width_of(const moira_pack_desc& desc) {
    const auto type = desc.quantization.weight_type;
    return type == MOIRA_TYPE_F32 ? 4 : type == MOIRA_TYPE_F8_E4M3 ? 1 : 2;
}

std::uint64_t scale_bytes_of(const moira_pack_desc& desc) {
    return desc.quantization.scale_mode == MOIRA_SCALE_BLOCK ? fp8_scale_bytes(desc.n, desc.k) : 0;
}

/// A plugin whose packing is to put gate, up and down one after the other, each with its scales, or to refuse.
struct concatenating_plugin {
    moira_plugin_api api{};
    op_provider provider;
    static inline bool refuse_query = false, refuse_pack = false;
    static inline std::uint64_t alignment = 64;

    concatenating_plugin() {
        refuse_query = refuse_pack = false;
        alignment = 64;
        api.struct_size = sizeof api;
        api.last_error = [](char* text, std::uint64_t bytes) { std::snprintf(text, bytes, "as scripted"); };
        api.pack_query = [](moira_device*, const moira_pack_desc* desc, moira_pack_info* info) -> moira_status {
            if (refuse_query || desc->kind != MOIRA_PACK_EXPERT)
                return MOIRA_UNSUPPORTED;
            info->packed_bytes = 3 * (width_of(*desc) * desc->n * desc->k + scale_bytes_of(*desc));
            info->alignment = alignment;
            info->scratch_bytes = 5000; // more than a page
            info->layout_id = 11;
            return MOIRA_OK;
        };
        api.pack = [](moira_device*, const moira_pack_desc* desc, const moira_pack_source* sources, void* packed,
                      void* scratch) -> moira_status {
            if (refuse_pack)
                return MOIRA_INVALID_ARGUMENT;
            const std::uint64_t bytes = width_of(*desc) * desc->n * desc->k, scale_bytes = scale_bytes_of(*desc);
            std::memset(scratch, 0xee, 5000); // must not lie in what was read
            auto* place = static_cast<std::byte*>(packed);
            for (std::size_t index = 0; index < 3; ++index, place += bytes + scale_bytes) {
                std::memcpy(place, sources[index].weight, bytes);
                if (scale_bytes > 0)
                    std::memcpy(place + bytes, sources[index].scales, scale_bytes);
            }
            return MOIRA_OK;
        };
        provider.plugin = "concatenating";
        provider.device_class = "cpu";
        provider.api = &api;
    }
};

enum class file_order { expert_by_expert, scattered };

/// A qwen3_moe folder with a dense layer 0 and experts in layer 1, whose expert bytes tell where they belong.
class tiny_model {
public:
    explicit tiny_model(const std::filesystem::path& folder, file_order order = file_order::expert_by_expert,
                        tensor_type type = tensor_type::bf16)
        : folder_(folder), type_(type) {
        std::ofstream(folder / "config.json")
            << R"({"model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"],
            "vocab_size": 300, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 24, "moe_intermediate_size": 40,
            "num_experts": 5, "num_experts_per_tok": 2, "mlp_only_layers": [0], "decoder_sparse_step": 1,
            "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu",
            "norm_topk_prob": true, "tie_word_embeddings": false, "attention_bias": false})";
        add("model.embed_tokens.weight", {300, hidden});
        for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
            add(layer + "input_layernorm.weight", {hidden});
            add(layer + "post_attention_layernorm.weight", {hidden});
            add(layer + "self_attn.q_proj.weight", {32, hidden});
            add(layer + "self_attn.k_proj.weight", {16, hidden});
            add(layer + "self_attn.v_proj.weight", {16, hidden});
            add(layer + "self_attn.o_proj.weight", {hidden, 32});
            add(layer + "self_attn.q_norm.weight", {16});
            add(layer + "self_attn.k_norm.weight", {16});
        }
        add("model.layers.0.mlp.gate_proj.weight", {24, hidden});
        add("model.layers.0.mlp.up_proj.weight", {24, hidden});
        add("model.layers.0.mlp.down_proj.weight", {hidden, 24});
        add("model.layers.1.mlp.gate.weight", {experts, hidden});
        add("model.norm.weight", {hidden});
        add("lm_head.weight", {300, hidden});
        for (int outer = 0; outer < (order == file_order::scattered ? 3 : static_cast<int>(experts)); ++outer)
            for (int within = 0; within < (order == file_order::scattered ? static_cast<int>(experts) : 3); ++within)
                order == file_order::scattered ? add_expert_matrix(within, outer) : add_expert_matrix(outer, within);
    }

    std::filesystem::path file() const { return folder_ / "model.safetensors"; }

    void add(const std::string& name, std::vector<std::int64_t> shape) { add_typed(name, std::move(shape), type_); }

    void add_typed(const std::string& name, std::vector<std::int64_t> shape, tensor_type type, std::uint8_t seed = 1) {
        std::uint64_t bytes = tensor_type_bytes(type);
        for (const std::int64_t dimension : shape)
            bytes *= static_cast<std::uint64_t>(dimension);
        auto& content = *contents_.emplace_back(std::make_unique<std::vector<std::byte>>(bytes));
        for (std::size_t index = 0; index < bytes; ++index)
            content[index] = static_cast<std::byte>(seed * 31 + index * 7 + index / 251);
        tensors_.push_back({.name = name, .type = type, .shape = std::move(shape), .bytes = content});
    }

    tensor_to_write& tensor(const std::string& name) {
        for (tensor_to_write& wanted : tensors_)
            if (wanted.name == name)
                return wanted;
        FAIL("no tensor ", name);
        return tensors_.front();
    }

    checkpoint open() const {
        REQUIRE(write_safetensors(file(), tensors_));
        auto opened = checkpoint::open(folder_);
        if (!opened)
            FAIL(opened.error().message);
        return std::move(*opened);
    }

    /// Makes every byte of a tensor the same.
    void fill(const std::string& name, std::byte value) {
        auto& content =
            *contents_.emplace_back(std::make_unique<std::vector<std::byte>>(tensor(name).bytes.size(), value));
        tensor(name).bytes = content;
    }

    /// Turns every expert's matrices into FP8 ones with scales (1, 1.5, 2, ... by expert and matrix), behind each
    /// matrix.
    void make_experts_fp8() {
        std::vector<tensor_to_write> all;
        for (tensor_to_write& tensor : tensors_) {
            all.push_back(tensor);
            if (tensor.name.find(".mlp.experts.") == std::string::npos)
                continue;
            tensor_to_write& weight = all.back();
            weight.type = tensor_type::f8_e4m3;
            weight.bytes = weight.bytes.first(weight.bytes.size() / tensor_type_bytes(type_));
            const float scale = 1.0F + static_cast<float>(scales_made_++) / 2;
            auto& content = *contents_.emplace_back(std::make_unique<std::vector<std::byte>>(sizeof scale));
            std::memcpy(content.data(), &scale, sizeof scale);
            all.push_back({.name = scale_name(weight.name),
                           .type = tensor_type::f32,
                           .shape = scale_shape(weight.shape[0], weight.shape[1]),
                           .bytes = content});
        }
        tensors_ = std::move(all);
    }

    /// What packing must give.
    std::vector<std::byte> slab(int expert) const {
        std::vector<std::byte> bytes;
        for (int matrix = 0; matrix < 3; ++matrix)
            for (const tensor_to_write& tensor : tensors_)
                if (tensor.name == expert_name(expert, matrix) ||
                    tensor.name == scale_name(expert_name(expert, matrix)))
                    bytes.insert(bytes.end(), tensor.bytes.begin(), tensor.bytes.end());
        return bytes;
    }

    static std::string expert_name(int expert, int matrix) {
        constexpr std::array<const char*, 3> names = {"gate_proj", "up_proj", "down_proj"};
        return "model.layers.1.mlp.experts." + std::to_string(expert) + "." + names[static_cast<std::size_t>(matrix)] +
               ".weight";
    }

private:
    void add_expert_matrix(int expert, int matrix) {
        add_typed(expert_name(expert, matrix),
                  matrix == 2 ? std::vector<std::int64_t>{hidden, inner} : std::vector<std::int64_t>{inner, hidden},
                  type_, static_cast<std::uint8_t>(2 + expert * 3 + matrix));
    }

    std::filesystem::path folder_;
    tensor_type type_;
    std::vector<std::unique_ptr<std::vector<std::byte>>> contents_;
    std::vector<tensor_to_write> tensors_;
    int scales_made_ = 0;
};

std::unique_ptr<slab_source> make_source(const checkpoint& model, const model_weight_names& names,
                                         const op_provider& provider, expert_io io,
                                         expert_precision precision = expert_precision::keep) {
    auto source = make_checkpoint_slab_source(model, names, provider, io, precision);
    if (!source)
        FAIL(source.error().message);
    return std::move(*source);
}

/// Page-aligned memory, as the store would pass it.
class pages {
public:
    explicit pages(std::uint64_t bytes)
        : bytes_(bytes), memory_(std::aligned_alloc(4096, (bytes / 4096 + 1) * 4096), &std::free) {}
    std::span<std::byte> span() { return {static_cast<std::byte*>(memory_.get()), bytes_}; }

private:
    std::uint64_t bytes_;
    std::unique_ptr<void, decltype(&std::free)> memory_;
};

result<std::vector<std::byte>> load(slab_source& source, expert_id expert) {
    pages slab(source.slab_bytes()), scratch(source.scratch_bytes());
    if (auto loaded = source.load(expert, slab.span(), scratch.span()); !loaded)
        return tl::unexpected(loaded.error());
    return std::vector<std::byte>(slab.span().begin(), slab.span().end());
}

} // namespace

TEST_CASE("experts come packed from the file, whatever the order of tensors and the way of reading") {
    const concatenating_plugin plugin;
    for (const char* parent : {"/dev/shm", "/tmp"}) { // one refuses direct reads on many kernels
        if (!std::filesystem::is_directory(parent))
            continue;
        for (const file_order order : {file_order::expert_by_expert, file_order::scattered})
            for (const expert_io io : {expert_io::automatic, expert_io::direct, expert_io::buffered}) {
                CAPTURE(parent);
                const temporary_folder folder(parent);
                const tiny_model tiny(folder.path(), order);
                const checkpoint model = tiny.open();
                const auto names = weight_names(model.shape());
                const auto source = make_source(model, names, plugin.provider, io);
                CHECK(source->slab_bytes() == 3 * matrix_bytes);
                CHECK(source->disk_bytes() == 3 * matrix_bytes);
                for (int expert = 0; expert < experts; ++expert) {
                    const auto slab = load(*source, {1, expert});
                    REQUIRE(slab);
                    CHECK(*slab == tiny.slab(expert));
                }
                const bool says_direct = source->description().starts_with("direct");
                CHECK(says_direct != source->description().starts_with("buffered"));
                if (io != expert_io::direct)
                    CHECK_FALSE(says_direct);
            }
    }
}

TEST_CASE("FP8 experts come with their scales, whatever the order of tensors and the way of reading") {
    const concatenating_plugin plugin;
    for (const file_order order : {file_order::expert_by_expert, file_order::scattered})
        for (const expert_io io : {expert_io::direct, expert_io::buffered})
            for (const expert_precision precision : {expert_precision::keep, expert_precision::fp8}) {
                const temporary_folder folder;
                tiny_model tiny(folder.path(), order);
                tiny.make_experts_fp8();
                const checkpoint model = tiny.open();
                const auto names = weight_names(model.shape());
                const auto source = make_source(model, names, plugin.provider, io, precision);
                CHECK(source->slab_bytes() == 3 * (hidden * inner + 4));
                CHECK(source->disk_bytes() == 3 * (hidden * inner + 4));
                for (int expert = 0; expert < experts; ++expert) {
                    const auto slab = load(*source, {1, expert});
                    REQUIRE(slab);
                    CHECK(*slab == tiny.slab(expert));
                }
            }
}

TEST_CASE("experts are rounded to FP8 in scratch of their own, into smaller slabs") {
    const concatenating_plugin plugin;
    for (const tensor_type type : {tensor_type::bf16, tensor_type::f16, tensor_type::f32}) {
        const temporary_folder folder;
        tiny_model tiny(folder.path(), file_order::scattered, type);
        for (int expert = 0; expert < experts; ++expert)
            for (int matrix = 0; matrix < 3; ++matrix)
                tiny.fill(tiny_model::expert_name(expert, matrix), std::byte{0x2a});
        const checkpoint model = tiny.open();
        const auto names = weight_names(model.shape());
        const auto packing = query_expert_packing(model, names, plugin.provider, expert_precision::fp8);
        REQUIRE(packing);
        CHECK(packing->quantizes());
        CHECK(packing->desc.quantization.weight_type == MOIRA_TYPE_F8_E4M3);
        const auto exact = make_source(model, names, plugin.provider, expert_io::buffered);
        const auto source = make_source(model, names, plugin.provider, expert_io::buffered, expert_precision::fp8);
        CHECK(source->slab_bytes() == 3 * (hidden * inner + 4));
        CHECK(source->disk_bytes() == exact->disk_bytes());
        CHECK(source->scratch_bytes() > exact->scratch_bytes());
        const auto slab = load(*source, {1, 2});
        REQUIRE(slab);
        // All weights are equal, so each is the largest of its block.
        for (std::size_t matrix = 0; matrix < 3; ++matrix)
            for (std::size_t index = 0; index < hidden * inner; ++index)
                REQUIRE((*slab)[matrix * (hidden * inner + 4) + index] == std::byte{0x7e});
    }
}

TEST_CASE("a weight that no scale holds and a scale that is no number cost their expert, no other") {
    const concatenating_plugin plugin;
    const temporary_folder folder;
    const float bad_scale = -1.0F;
    for (const bool scaled : {false, true}) {
        tiny_model tiny(folder.path());
        for (int expert = 0; expert < experts; ++expert)
            for (int matrix = 0; matrix < 3; ++matrix)
                tiny.fill(tiny_model::expert_name(expert, matrix),
                          expert == 3 && !scaled ? std::byte{0xff} : std::byte{0x2a});
        if (scaled) {
            tiny.make_experts_fp8();
            tiny.tensor(scale_name(tiny_model::expert_name(3, 1))).bytes = std::as_bytes(std::span(&bad_scale, 1));
        }
        const checkpoint model = tiny.open();
        const auto names = weight_names(model.shape());
        const auto source = make_source(model, names, plugin.provider, expert_io::buffered, expert_precision::fp8);
        for (int expert = 0; expert < experts; ++expert) {
            const auto slab = load(*source, {1, expert});
            REQUIRE(slab.has_value() == (expert != 3));
            if (!slab) {
                CHECK(slab.error().code == errc::corrupt_file);
                CHECK(slab.error().message.find("expert 3 of layer 1") != std::string::npos);
            }
        }
    }
}

TEST_CASE("the packing of the first expert speaks for all: kind, shape, type, bytes") {
    const concatenating_plugin plugin;
    const temporary_folder folder;
    const checkpoint model = tiny_model(folder.path(), file_order::scattered, tensor_type::f32).open();
    const auto packing = query_expert_packing(model, weight_names(model.shape()), plugin.provider);
    REQUIRE(packing);
    CHECK(packing->desc.struct_size == sizeof(moira_pack_desc));
    CHECK(packing->desc.kind == MOIRA_PACK_EXPERT);
    CHECK(packing->desc.n == inner);
    CHECK(packing->desc.k == hidden);
    CHECK(packing->desc.quantization.weight_type == MOIRA_TYPE_F32);
    CHECK(packing->info.layout_id == 11);
    CHECK(packing->source_bytes == 6 * matrix_bytes);
}

TEST_CASE("what cannot be packed is refused before anything is read") {
    concatenating_plugin plugin;
    const temporary_folder folder;
    tiny_model tiny(folder.path());
    const auto code_of = [&](const checkpoint& model, const model_weight_names& names) {
        const auto source = make_checkpoint_slab_source(model, names, plugin.provider, expert_io::buffered);
        return source ? errc::internal : source.error().code;
    };
    SUBCASE("the plugin has no such packing") {
        const checkpoint model = tiny.open();
        concatenating_plugin::refuse_query = true;
        CHECK(code_of(model, weight_names(model.shape())) == errc::unsupported);
    }
    SUBCASE("the plugin's numbers make no sense") {
        const checkpoint model = tiny.open();
        concatenating_plugin::alignment = 48;
        CHECK(code_of(model, weight_names(model.shape())) == errc::plugin_incompatible);
    }
    SUBCASE("experts of different types") {
        const auto name = tiny_model::expert_name(3, 1);
        tiny.tensor(name).type = tensor_type::f16; // as many bytes
        const checkpoint model = tiny.open();
        CHECK(code_of(model, weight_names(model.shape())) == errc::invalid_config);
    }
    SUBCASE("a type that needs scales") {
        for (int expert = 0; expert < experts; ++expert)
            for (int matrix = 0; matrix < 3; ++matrix) {
                tensor_to_write& tensor = tiny.tensor(tiny_model::expert_name(expert, matrix));
                tensor.type = tensor_type::i16;
            }
        const checkpoint model = tiny.open();
        CHECK(code_of(model, weight_names(model.shape())) == errc::unsupported);
    }
    SUBCASE("names that the checkpoint lacks, and a model without experts") {
        const checkpoint model = tiny.open();
        auto names = weight_names(model.shape());
        names.layers[1].experts[2].up = "nowhere";
        CHECK(code_of(model, names) == errc::invalid_config);
        names.layers[1].experts.clear();
        CHECK(code_of(model, names) == errc::invalid_config);
    }
}

TEST_CASE("an expert that is not there, memory that does not fit and a plugin that fails are errors") {
    concatenating_plugin plugin;
    const temporary_folder folder;
    const tiny_model tiny(folder.path());
    const checkpoint model = tiny.open();
    const auto names = weight_names(model.shape());
    const auto source = make_source(model, names, plugin.provider, expert_io::buffered);
    for (const expert_id absent : {expert_id{0, 0}, expert_id{1, 5}, expert_id{2, 0}, expert_id{-1, 0}, {1, -1}}) {
        const auto slab = load(*source, absent);
        REQUIRE_FALSE(slab);
        CHECK(slab.error().code == errc::invalid_argument);
    }
    pages slab(source->slab_bytes()), scratch(source->scratch_bytes());
    const auto short_slab = source->load({1, 0}, slab.span().first(100), scratch.span());
    REQUIRE_FALSE(short_slab);
    CHECK(short_slab.error().code == errc::invalid_argument);
    const auto short_scratch = source->load({1, 0}, slab.span(), scratch.span().first(100));
    REQUIRE_FALSE(short_scratch);
    CHECK(short_scratch.error().code == errc::invalid_argument);
    concatenating_plugin::refuse_pack = true;
    const auto failed = source->load({1, 0}, slab.span(), scratch.span());
    REQUIRE_FALSE(failed);
    CHECK(failed.error().code == errc::device_error);
}

TEST_CASE("a file that is cut while the model runs costs the experts beyond the cut, with the file's name, no others") {
    for (const expert_io io : {expert_io::buffered, expert_io::direct}) {
        const concatenating_plugin plugin;
        const temporary_folder folder;
        const tiny_model tiny(folder.path());
        const checkpoint model = tiny.open();
        const auto names = weight_names(model.shape());
        const auto source = make_source(model, names, plugin.provider, io);
        expert_store_options options;
        options.layers = 2;
        options.moe_layers = 1;
        options.experts = experts;
        options.top_k = 2;
        options.slab_bytes = source->slab_bytes();
        options.budget_bytes = 3 * (options.slab_bytes + 64);
        options.loader_threads = 0; // whoever waits loads, in order
        const auto store = expert_store::create(options, *source, nullptr);
        REQUIRE(store);
        const auto shows = [&](int expert) {
            const auto expected = tiny.slab(expert);
            const auto address = (*store)->table(1)[expert].address;
            return address != 0 &&
                   std::memcmp(reinterpret_cast<const void*>(address), expected.data(), expected.size()) == 0;
        };
        {
            auto lease = (*store)->acquire(1, std::array{0, 4});
            REQUIRE(lease);
            REQUIRE(wait_all(*lease));
            CHECK(shows(0));
            CHECK(shows(4));
        }
        const tensor_location* cut = model.find(tiny_model::expert_name(3, 1));
        REQUIRE(cut);
        std::filesystem::resize_file(tiny.file(), cut->offset + 10);
        auto lease = (*store)->acquire(1, std::array{0, 2, 3});
        REQUIRE(lease);
        const auto waited = wait_all(*lease);
        REQUIRE_FALSE(waited);
        CHECK(waited.error().code == errc::io_error);
        CHECK(waited.error().message.find("model.safetensors") != std::string::npos);
        CHECK(shows(0));
        CHECK(shows(2));
        CHECK((*store)->table(1)[3].address == 0);
        CHECK((*store)->statistics().load_failures == 1);
    }
}
