/* device.c - what is the same on every device: one operation run at once. */
#include "crank/device.h"

#include "device/operations.h"

crank_status crank_run_once(crank_context *context, crank_device *device, const char *operation, const crank_view *in,
                            int inputs, const crank_view *out, int outputs, const void *attributes)
{
    crank_call call = {
        .device = device, .in = in, .inputs = inputs, .out = out, .outputs = outputs, .attributes = attributes};
    char why[512];
    if (!operation_fits(operation, &call, why, sizeof why)) return crank_fail(context, CRANK_USAGE, "%s", why);
    crank_body body;
    if (!device->find(device, operation, &call, &body))
        return crank_fail(context, CRANK_USAGE, "device %s has no body for %s on these types", device->name, operation);
    if (body.workspace) {
        call.workspace = device->alloc(context, device, body.workspace, operation);
        if (!call.workspace) return CRANK_FAILED;
    }
    crank_status status = body.run(context, &call);
    if (status == CRANK_OK) status = device->synchronize(context, device);
    if (call.workspace) device->free(device, call.workspace);
    return status;
}
