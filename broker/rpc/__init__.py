"""The gRPC side: interceptors, and servicers that translate, call one use case, and translate back."""
