// A CUDA plugin with one op on a scripted CUDA, as its host sees it.
#pragma once

#include "core/execute/compute_pool.hpp"
#include "plugins/cuda_runtime/cuda_runtime.hpp"
#include "tests/plugins/scripted_cuda.hpp"

#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

extern "C" moira_status moira_plugin_open_v0(const moira_plugin_api** table);

namespace moira {

inline constexpr cuda_description h100 = {"H100", 9, 0, 132, 1, uint64_t{80} << 30};
inline constexpr cuda_description old = {"V100", 7, 0, 80, 1, uint64_t{16} << 30};

/// What the next launch of rmsnorm returns; 0 then.
extern int rmsnorm_code;

/// A device with a stream, a prepared rmsnorm of 4 rows of 4, and what it reads and writes.
struct scripted_session {
    compute_pool pool{{1, 0}};
    plugin_host_services services{pool, {}};
    const moira_plugin_api* api = nullptr;
    moira_device* device = nullptr;
    moira_stream* stream = nullptr;
    moira_buffer* memory = nullptr;
    moira_op* op = nullptr;
    float* in = nullptr;
    float* out = nullptr;

    explicit scripted_session(std::vector<cuda_description> devices = {h100}) {
        scripted_cuda() = {};
        scripted_cuda().devices = std::move(devices);
        REQUIRE(moira_plugin_open_v0(&api) == MOIRA_OK);
    }
    ~scripted_session() {
        api->op_destroy(op);
        api->buffer_destroy(memory);
        api->stream_destroy(stream);
        api->device_close(device);
        CHECK(scripted_cuda().nothing_left());
    }
    scripted_session(const scripted_session&) = delete;
    scripted_session& operator=(const scripted_session&) = delete;

    moira_status open(uint32_t index = 0) { return api->device_open(&services.table(), index, &device); }
    void open_all() {
        REQUIRE(open() == MOIRA_OK);
        REQUIRE(api->stream_create(device, &stream) == MOIRA_OK);
        REQUIRE(api->buffer_create(device, 4096, 64, &memory) == MOIRA_OK);
        in = static_cast<float*>(api->buffer_address(memory));
        out = in + 512;
        const moira_rmsnorm_desc desc = norm(4);
        uint64_t workspace = 1;
        REQUIRE(api->op_prepare(device, &desc.header, &op, &workspace) == MOIRA_OK);
        CHECK(workspace == 0);
    }
    static moira_rmsnorm_desc norm(uint32_t width) {
        moira_rmsnorm_desc desc{};
        desc.header = {sizeof desc, MOIRA_OP_RMSNORM, 4};
        desc.width = width;
        desc.epsilon = 1e-6f;
        return desc;
    }
    moira_status launch(uint32_t rows = 4) {
        moira_rmsnorm_args args{};
        args.rows = rows;
        args.groups = 1;
        args.in = in;
        args.out = out;
        args.weight = in;
        args.in_stride = args.out_stride = 4;
        const moira_launch list{op, &args};
        return api->launch(stream, &list, 1);
    }
    moira_status upload(const std::vector<float>& values) {
        return api->copy_to_device(stream, in, values.data(), values.size() * sizeof(float));
    }
    std::string words() const {
        char text[MOIRA_TEXT_BYTES];
        api->last_error(text, sizeof text);
        return text;
    }
};

inline const std::vector<float> sixteen = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

} // namespace moira
