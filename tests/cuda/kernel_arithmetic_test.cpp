// The table of kernels/cuda/ARITHMETIC.md: what each launch moves and multiplies, how many blocks fit, and what share
// of a GPU's peak follows. Recorded from the launch plans that the plugins run. MOIRA_WRITE_TABLES=1 writes it anew.
#include "kernels/cuda/sm80/attention_plan.hpp"
#include "kernels/cuda/sm80/expert_ffn_plan.hpp"
#include "kernels/cuda/sm80/gemm_plan.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace moira {

namespace {

// Data sheets; the share of the tensor peak that mma.sync reaches is what published GEMMs show without wgmma.
struct gpu_model {
    const char* name;
    double bytes_per_s;
    double flops_per_s; // BF16 tensor cores
    uint32_t multiprocessors;
    uint32_t shared_bytes; // of one
    double mma_share_max;
};
constexpr gpu_model gpus[] = {{"A100", 2.04e12, 312e12, 108, 164 * 1024, 0.85},
                              {"H100", 3.35e12, 989e12, 132, 228 * 1024, 0.62}};
constexpr uint32_t registers_per_multiprocessor = 65536;
constexpr uint32_t threads_per_multiprocessor = 2048;
constexpr uint32_t shared_bytes_reserved = 1024; // per block, by the system
constexpr double memory_latency_s = 0.75e-6;     // under load
constexpr double memory_share_max = 0.92;        // of the data sheet's bandwidth, in a read probe
constexpr double kernel_ramp_s = 1.5e-6;         // to start and fill a kernel within a graph, and to drain it

struct kernel_launch {
    std::string name; // as in kernel_budgets.txt
    launch_shape shape;
    uint64_t flight_bytes; // that one block has under way
    double bytes;          // of weights, keys and values; what else moves is below 1 %
    double flops;
    double flops_issued; // with padded rows
    uint32_t blocks;     // with work
};

std::map<std::string, uint32_t> budget_registers() {
    std::ifstream file(MOIRA_SOURCE_DIRECTORY "/kernels/cuda/kernel_budgets.txt");
    std::map<std::string, uint32_t> registers;
    for (std::string line; std::getline(file, line);) {
        std::istringstream words(line);
        std::string name;
        uint32_t count = 0;
        if (line.rfind('#', 0) != 0 && words >> name >> count)
            registers[name] = count;
    }
    return registers;
}

uint32_t blocks_per_multiprocessor(const kernel_launch& launch, const gpu_model& gpu, uint32_t registers) {
    const uint32_t by_registers =
        registers_per_multiprocessor / (uint32_t(round_up(registers, 8)) * launch.shape.threads);
    const uint32_t by_shared = gpu.shared_bytes / (launch.shape.shared_bytes + shared_bytes_reserved);
    return std::min({by_registers, by_shared, threads_per_multiprocessor / launch.shape.threads, 32u});
}

struct expectation {
    uint32_t resident; // blocks per multiprocessor
    double memory_s;   // at the peaks
    double tensor_s;
    double seconds;
};

expectation expect(const kernel_launch& launch, const gpu_model& gpu, uint32_t registers) {
    expectation found{};
    found.resident = blocks_per_multiprocessor(launch, gpu, registers);
    const uint32_t places = found.resident * gpu.multiprocessors;
    const double flight = double(std::min(launch.blocks, places)) * double(launch.flight_bytes);
    const double memory_share = std::min(1.0, flight / (gpu.bytes_per_s * memory_latency_s)) * memory_share_max;
    const double waves = std::ceil(double(launch.blocks) / places);
    const double wave_share = launch.blocks / (waves * places); // tensor cores of idle places are idle
    found.memory_s = launch.bytes / gpu.bytes_per_s;
    found.tensor_s = launch.flops / gpu.flops_per_s;
    const double tensor_s = launch.flops_issued / (gpu.flops_per_s * gpu.mma_share_max * wave_share);
    found.seconds = std::max(found.memory_s / memory_share, tensor_s) + kernel_ramp_s;
    return found;
}

template <class Shape>
std::string product_name() {
    std::ostringstream name;
    name << "product_shape<" << uint32_t(Shape::format) << ',' << Shape::matrices << ',' << Shape::tiles_m << ','
         << Shape::warps_m << ',' << Shape::warps_n << ',' << Shape::tiles_n << ',' << Shape::stages << '>';
    return name.str();
}

// A launcher that writes down what it is asked to launch.
struct recorder {
    uint32_t distinct = 1;  // experts, or matrices
    uint32_t row_count = 1; // pairs, or rows of x
    double context = 0;
    std::vector<kernel_launch> launches;

    template <class Shape>
    void product(const char* kernel, const launch_shape& shape, uint32_t columns, uint32_t k) {
        kernel_launch made{std::string(kernel) + "<" + product_name<Shape>() + ">", shape, 0, 0, 0, 0, 0};
        made.flight_bytes = (Shape::stages - 1) * Shape::weight_bytes;
        const uint64_t tiles = (columns + weight_tile_rows - 1) / weight_tile_rows * uint64_t{k / Shape::stage_k};
        made.bytes = double(distinct) * double(Shape::matrices * tiles * Shape::tile_bytes);
        made.flops = 2.0 * row_count * Shape::matrices * columns * k;
        const uint32_t row_tiles = distinct * ((row_count + distinct * Shape::rows - 1) / (distinct * Shape::rows));
        made.flops_issued = 2.0 * row_tiles * Shape::rows * Shape::matrices * columns * k;
        made.blocks = shape.grid_x * row_tiles;
        launches.push_back(made);
    }
    void prepare(const launch_shape&, const expert_prepare_args&) {}
    template <class Shape>
    void gate_up(const launch_shape& shape, const expert_product_args& args) {
        product<Shape>("expert_gate_up", shape, args.columns, args.in_width);
    }
    template <class Shape>
    void down(const launch_shape& shape, const expert_product_args& args) {
        product<Shape>("expert_down", shape, args.columns, args.in_width);
    }
    void round(const launch_shape&, const gemm_kernel_args&) {}
    template <class Shape>
    void tiles(const launch_shape& shape, const gemm_kernel_args& args) {
        product<Shape>("gemm_tiles", shape, args.n, args.x_width);
    }
    template <weight_format format>
    void exact(const launch_shape&, const gemm_kernel_args&) {}
    void check(const launch_shape&, const attention_kernel_args&) {}
    void merge(const launch_shape&, const attention_kernel_args&) {}
    template <class Shape, bool shared_out>
    void rows(const launch_shape& shape, const attention_kernel_args& args) {
        std::ostringstream name;
        name << "attention_rows<attention_shape<" << Shape::key_width << ',' << Shape::value_width << ','
             << (Shape::values_in_keys ? "true" : "false") << ',' << Shape::stages << ">,"
             << (shared_out ? "true" : "false") << '>';
        kernel_launch made{name.str(), shape, (Shape::stages - 1) * Shape::stage_bytes, 0, 0, 0, 0};
        const uint32_t splits = shared_out ? uint32_t(std::ceil(context / args.split_tokens)) : 1;
        made.blocks = splits * shape.grid_y * shape.grid_z;
        const double heads = args.heads;
        const double products = 2.0 * args.rows * context * (args.key_width + args.value_width);
        made.bytes = args.rows * context * (heads / args.kv_group) * (args.key_width + args.value_width) * 2.0;
        made.flops = products * heads;
        made.flops_issued = products * shape.grid_y * attention_heads;
        launches.push_back(made);
    }
};

struct work {
    std::string name;
    std::vector<kernel_launch> launches;
    uint32_t small_kernels; // that move next to nothing
};

moira_quantization quantization_of(uint32_t type) {
    if (type == MOIRA_TYPE_F8_E4M3)
        return {type, MOIRA_SCALE_BLOCK, MOIRA_TYPE_F32, 128, 128, MOIRA_ACTIVATION_KEEP};
    if (type == MOIRA_TYPE_F4_E2M1)
        return {type, MOIRA_SCALE_BLOCK, MOIRA_TYPE_F8_E8M0, 1, 32, MOIRA_ACTIVATION_KEEP};
    return {type, MOIRA_SCALE_NONE, 0, 0, 0, MOIRA_ACTIVATION_KEEP};
}
std::string name_of_type(uint32_t type) {
    return type == MOIRA_TYPE_F8_E4M3 ? "FP8" : type == MOIRA_TYPE_F4_E2M1 ? "MXFP4" : "BF16";
}

// One layer of qwen3-30b-a3b; experts chosen as if at random.
work expert_work_of(uint32_t type, uint32_t rows) {
    constexpr uint32_t experts = 128;
    constexpr uint32_t top_k = 8;
    moira_expert_ffn_desc desc{};
    desc.hidden = 2048;
    desc.inner = 768;
    desc.experts = experts;
    desc.quantization = quantization_of(type);
    recorder record;
    record.row_count = rows * top_k;
    record.distinct = uint32_t(std::lround(experts * (1.0 - std::pow(1.0 - double(top_k) / experts, rows))));
    moira_expert_ffn_args args{};
    args.pairs = record.row_count;
    args.groups = record.distinct;
    run_expert_ffn(desc, args, plan_expert_ffn(desc, args.groups, args.pairs), {}, record);
    return {"experts " + name_of_type(type) + ", " + std::to_string(rows) + " rows", record.launches, 1};
}

work head_work_of(uint32_t type, uint32_t rows) {
    moira_gemm_desc desc{};
    desc.n = 151936;
    desc.k = 2048;
    desc.compute = MOIRA_COMPUTE_AUTO;
    desc.quantization = quantization_of(type);
    recorder record;
    record.row_count = rows;
    moira_gemm_args args{};
    args.rows = rows;
    run_gemm(desc, args, record);
    return {"head " + name_of_type(type) + ", " + std::to_string(rows) + " rows", record.launches, 1};
}

work attention_work_of(uint32_t rows, uint32_t context) {
    moira_attention_gqa_desc desc{};
    desc.heads = 32;
    desc.kv_heads = 4;
    desc.head_dim = 128;
    desc.page_tokens = 16;
    desc.context_max = 32768;
    recorder record;
    record.context = context;
    moira_attention_args args{};
    args.rows = rows;
    const attention_plan plan = plan_attention_gqa(desc, rows);
    run_attention_gqa(desc, args, plan, {}, record);
    return {"GQA, " + std::to_string(rows) + " rows at " + std::to_string(context), record.launches,
            plan.shared_out ? 2u : 1u};
}

std::vector<work> all_work() {
    std::vector<work> all;
    for (const uint32_t rows : {1u, 4u, 16u, 512u})
        for (const uint32_t type : {MOIRA_TYPE_BF16, MOIRA_TYPE_F8_E4M3, MOIRA_TYPE_F4_E2M1})
            all.push_back(expert_work_of(type, rows));
    for (const uint32_t rows : {1u, 16u})
        for (const uint32_t context : {4096u, 32768u})
            all.push_back(attention_work_of(rows, context));
    for (const uint32_t rows : {1u, 16u, 512u})
        for (const uint32_t type : {MOIRA_TYPE_BF16, MOIRA_TYPE_F8_E4M3})
            all.push_back(head_work_of(type, rows));
    return all;
}

std::string number(double value) {
    char text[32];
    std::snprintf(text, sizeof text, value < 99.95 ? "%.1f" : "%.0f", value);
    return text;
}

// Both GPUs' figures of one op, "A100 / H100".
std::string table_row(const work& op, const std::map<std::string, uint32_t>& registers) {
    double bytes = 0;
    double flops = 0;
    std::string resident;
    std::string seconds;
    std::string share;
    for (const kernel_launch& launch : op.launches) {
        bytes += launch.bytes;
        flops += launch.flops;
    }
    for (const gpu_model& gpu : gpus) {
        double memory_s = 0;
        double tensor_s = 0;
        double total_s = op.small_kernels * kernel_ramp_s;
        std::string blocks;
        for (const kernel_launch& launch : op.launches) {
            REQUIRE_MESSAGE(registers.count(launch.name) == 1, launch.name);
            const expectation found = expect(launch, gpu, registers.at(launch.name));
            REQUIRE(found.resident > 0);
            memory_s += found.memory_s;
            tensor_s += found.tensor_s;
            total_s += found.seconds;
            blocks += (blocks.empty() ? "" : ", ") + std::to_string(launch.blocks) + " (" +
                      std::to_string(found.resident) + ")";
        }
        const bool by_memory = memory_s > tensor_s;
        const char* between = &gpu == gpus ? "" : " / ";
        resident += between + blocks;
        seconds += between + number(total_s * 1e6);
        share += between + std::to_string(int(std::lround(100 * std::max(memory_s, tensor_s) / total_s))) + " % " +
                 (by_memory ? "memory" : "tensor");
    }
    return "| " + op.name + " | " + number(bytes * 1e-6) + " | " + number(flops * 1e-9) + " | " + resident + " | " +
           seconds + " | " + share + " |\n";
}

std::string whole_table() {
    const std::map<std::string, uint32_t> registers = budget_registers();
    std::string table =
        "| op | MB | GFLOP | blocks (resident per SM), A100 / H100 | us expected | share of the peak |\n"
        "| --- | --- | --- | --- | --- | --- |\n";
    for (const work& op : all_work())
        table += table_row(op, registers);
    return table;
}

} // namespace

TEST_CASE("the arithmetic that kernels/cuda/ARITHMETIC.md shows is that of the launch plans") {
    const std::string path = MOIRA_SOURCE_DIRECTORY "/kernels/cuda/ARITHMETIC.md";
    std::ifstream file(path);
    const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    const std::string begin = "<!-- table: arithmetic -->\n";
    const std::string end = "<!-- end -->";
    const size_t first = text.find(begin);
    const size_t last = text.find(end);
    REQUIRE(first != std::string::npos);
    REQUIRE(last != std::string::npos);
    const std::string table = whole_table();
    if (std::getenv("MOIRA_WRITE_TABLES") != nullptr)
        std::ofstream(path) << text.substr(0, first + begin.size()) << table << text.substr(last);
    else
        CHECK(text.substr(first + begin.size(), last - first - begin.size()) == table);
}

} // namespace moira
