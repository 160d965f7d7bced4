#include "plugins/cuda_runtime/cuda_calls.hpp"

namespace moira {

cuda_outcome cuda_outcome_of(int code) {
    switch (code) { // numbers of cudaError_t, which are part of the CUDA runtime's interface
    case 0:
        return cuda_outcome::ok;
    case 600: // cudaErrorNotReady
        return cuda_outcome::not_ready;
    case 2: // cudaErrorMemoryAllocation
        return cuda_outcome::out_of_memory;
    case 34:  // cudaErrorStubLibrary
    case 35:  // cudaErrorInsufficientDriver
    case 100: // cudaErrorNoDevice
    case 101: // cudaErrorInvalidDevice
    case 803: // cudaErrorSystemDriverMismatch
    case 804: // cudaErrorCompatNotSupportedOnDevice
        return cuda_outcome::no_device;
    case 4:   // cudaErrorCudartUnloading
    case 46:  // cudaErrorDevicesUnavailable
    case 214: // cudaErrorECCUncorrectable
    case 220: // cudaErrorNvlinkUncorrectable
    case 226: // cudaErrorContained
    case 700: // cudaErrorIllegalAddress
    case 702: // cudaErrorLaunchTimeout
    case 709: // cudaErrorContextIsDestroyed
    case 710: // cudaErrorAssert
    case 714: // cudaErrorHardwareStackError
    case 715: // cudaErrorIllegalInstruction
    case 716: // cudaErrorMisalignedAddress
    case 717: // cudaErrorInvalidAddressSpace
    case 718: // cudaErrorInvalidPc
    case 719: // cudaErrorLaunchFailure
    case 721: // cudaErrorTensorMemoryLeak
    case 999: // cudaErrorUnknown
        return cuda_outcome::lost;
    default:
        return cuda_outcome::refused;
    }
}

} // namespace moira
