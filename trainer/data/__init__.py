"""From a folder of pictures to the batch of one step."""
